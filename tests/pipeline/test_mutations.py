"""Every change of a number renames what it touches and nothing else; no renovation renames anything.

Each line is an edit of a copy of the package: file, what stands there once, what is to stand there. The names are
those of the test scale, "kind/subject", as `Overlay` finds them; a pattern may stand for several.
"""

import pytest
from overlay import Overlay

EMORL, INFERENCE = "training/emorl*", ("decompose/emorl*", "refinements/emorl*", "layers/emorl*")
TRAINING = "training/*"
WITH_NOISE = (EMORL, "training/slot_attention", "training/iodine", "training/monet", "training/genesis*")
ALL_INFERENCE = ("decompose/*", "refinements/*", "layers/*")
ENCODED = (EMORL, *INFERENCE, "*/slot_attention", "*/slot_mlp")
ADAM = (EMORL, "training/slot_*", "training/iodine", "training/genesis*")
SCORED = tuple(f"evaluation/{name}" for name in ("decomposition", "refinement", "generalisation", "layers"))

MUTATIONS = {
    # EfficientMORL
    "weight of a loss": ("models/emorl.py", "(I + 3 - i) / (I + 1)", "(I + 2 - i) / (I + 1)", (EMORL,)),
    "off-by-one of the curriculum": ("models/emorl.py", "if start <= step)", "if start <= step + 1)", (EMORL,)),
    "β left out of line 22": (
        "models/emorl.py", "loss = (q.kl + beta * q.nll).sum() / reference_batch",
        "loss = (q.kl + q.nll).sum() / reference_batch", (EMORL, *INFERENCE),
    ),
    "prior of the refinement": (
        "models/emorl.py", 'prior if self.settings.prior == "reversed++" or in_the_paper else None',
        'prior if self.settings.prior == "reversed" or in_the_paper else None', (EMORL, *INFERENCE),
    ),
    "order of the layers": ("models/emorl.py", "else posteriors[::-1]", "else posteriors", (EMORL, *INFERENCE)),
    "range of the encoder's images": ("models/emorl.py", "2 * images - 1)  # lines", "2 * images)  # lines", (EMORL, *INFERENCE)),
    "layer norm of line 22": (
        "models/emorl.py", "F.layer_norm(part, part.shape[-1:])", "F.layer_norm(part, part.shape[-1:], eps=1e-3)",
        (EMORL, *INFERENCE),
    ),
    "a missing residual": ("models/emorl.py", "s = s + self.mlp_s", "s = self.mlp_s", (EMORL, *INFERENCE)),
    "start of the posterior": ("models/emorl.py", "(torch.zeros(D), torch.ones(D))", "(torch.zeros(D), torch.zeros(D))", (EMORL, *INFERENCE)),
    "KL of the layers alone": (
        "models/emorl.py", "self._gaussian(self.initial_posterior))", "self._gaussian(self.initial_posterior * 1.001))", ("layers/emorl*",),
    ),
    "which decomposition is the last": ("models/emorl.py", "        *_, refined = self.refinements(images, inference, generator)", "        refined, *_ = self.refinements(images, inference, generator)", ("decompose/emorl*",)),
    "gates of the GRU": (
        "models/parts/recurrences.py", "(1 - update) * candidate + update * hidden", "update * candidate + (1 - update) * hidden",
        (EMORL, *INFERENCE),
    ),
    "end of GECO's warm start": ("models/parts/geco.py", "if step == self.settings.warm_start:", "if step <= self.settings.warm_start + 1:", (EMORL,)),
    "GECO's moving average": ("models/parts/geco.py", "1 - self.settings.alpha", "self.settings.alpha", (EMORL,)),
    "GECO's floor": ("models/parts/geco.py", ".clamp(min=self.settings.floor)", "", (EMORL,)),
    "GECO's gradient": ("models/parts/geco.py", "self.ema - (nll - nll.detach())", "self.ema", (EMORL,)),
    # parts
    "epsilon of the attention": ("models/parts/attention.py", "epsilon: float = 1e-8", "epsilon: float = 1e-5", (EMORL, *INFERENCE, "*/slot_attention")),
    "a detach": ("models/parts/attention.py", "attention.sum(-1, keepdim=True)) @", "attention.sum(-1, keepdim=True).detach()) @", (EMORL, "training/slot_attention")),
    "scale of the attention": ("models/parts/attention.py", "** -0.5", "** -0.25", (EMORL, *INFERENCE, "*/slot_attention")),
    "epsilon of the deviation": ("models/parts/latents.py", "s.clamp(max=80.0)) + 1e-5)", "s.clamp(max=80.0)) + 1e-6)", (EMORL, *INFERENCE, "*/iodine", "*/slot_attention")),
    "a sign in the KL": ("models/parts/latents.py", "- 1) - std.log()", "- 1) + std.log()", (EMORL, *INFERENCE, "*/iodine", "*/monet")),
    "σ of the Gaussian likelihood": ("models/parts/likelihoods.py", "squared / (2 * sigma**2)", "squared / (sigma**2)", (EMORL, *INFERENCE, "*/genesis_s")),
    "normalisation of a mixture": ("models/parts/likelihoods.py", "(log_masks + log_density).logsumexp(1)", "(log_masks + log_density).logsumexp(1) * 1.0001", ("*/genesis", "*/iodine", "*/monet")),
    "padding of a grid": ("models/parts/position.py", "torch.linspace(0, 1, width)[None, :]", "torch.linspace(0, 0.99, width)[None, :]", ENCODED),
    "an activation": ("models/parts/encoders.py", "5, padding=2), nn.ReLU()]", "5, padding=2), nn.ELU()]", ENCODED),
    "sharing of the scope": ("models/parts/stick_breaking.py", "F.logsigmoid(-logits).cumsum(1)", "F.logsigmoid(-logits * 1.01).cumsum(1)", ("*/genesis*",)),
    # other systems
    "rounds of the attention": ("models/slot_attention.py", "for _ in range(iterations)", "for _ in range(iterations - 1)", ("*/slot_attention",)),
    "windows of the average": ("models/slot_mlp.py", "self.averages, features, self.averages)", "self.averages, features, self.averages.roll(1, 1))", ("*/slot_mlp",)),
    "mean for sum": ("models/parts/slot_autoencoder.py", "loss = squared.sum() / len(images)", "loss = squared.mean()", ("training/slot_attention",)),
    "weights of IODINE's losses": ("models/iodine.py", "loss + q.i / T * (nll + kl)", "loss + (q.i + 1) / T * (nll + kl)", ("training/iodine",)),
    "an open gate less": ("models/iodine.py", "nn.init.ones_(module.bias_ih.data.chunk(4)[1])", "nn.init.ones_(module.bias_ih.data.chunk(4)[2])", ("*/iodine",)),
    "MONet's share of a scope": ("models/monet.py", "log_scope = log_scope + F.logsigmoid(-logits)", "log_scope = log_scope - F.logsigmoid(logits)", ("*/monet",)),
    "GENESIS's goal": ("models/parts/genesis_geco.py", "settings.goal - self.ema", "self.ema - settings.goal", ("training/genesis*",)),
    "GENESIS's first error": ("models/parts/genesis_geco.py", "1.0 if step == 0 else", "1.0 if step == 1 else", ("training/genesis*",)),
    # training
    "off-by-one of the decay": ("training/schedules.py", "max(0, step - begin)", "max(0, step - begin + 1)", (TRAINING,)),
    "order of the batches": ("training/step.py", "default_rng((seed, epoch))", "default_rng((epoch, seed))", (TRAINING,)),
    "off-by-one of the batches": ("training/step.py", "divmod(step, batches_per_epoch)", "divmod(step + 1, batches_per_epoch)", (TRAINING,)),
    "range of the images": ("training/step.py", ".to(dtype) / 255", ".to(dtype) / 256", (TRAINING,)),
    "gradients of the step before": ("training/step.py", "        self.optimizer.zero_grad()\n", "", (TRAINING,)),
    "decay of squared gradients": ("training/step.py", "settings.beta1, 0.999)", "settings.beta1, 0.99)", ADAM),
    "no clipping": ("training/step.py", "self._settings.clip_norm or math.inf", "math.inf", (EMORL,)),
    "seed of the noise": ("training/step.py", ".manual_seed(seed)", ".manual_seed(seed + 1)", WITH_NOISE),
    "seed of the weights": ("training/engine.py", "torch.manual_seed(seed)", "torch.manual_seed(seed + 1)", (TRAINING, *ALL_INFERENCE)),
    "rounded products in training": ("models/parts/precision.py", "set_float32_precision(exact=dtype is torch.float32)", "set_float32_precision(exact=True)", (TRAINING,)),
    "rounded products in evaluation": ("models/parts/precision.py", "    set_float32_precision(exact=True)", "    set_float32_precision(exact=False)", ALL_INFERENCE),
    # evaluation
    "label of the background": ("evaluation/parts/segmentation.py", "counted = t > 0 if", "counted = t > 1 if", SCORED),
    "a worst matching": ("evaluation/parts/segmentation.py", "maximize=True", "maximize=False", SCORED[:3]),
    "expected agreement": ("evaluation/parts/segmentation.py", "maximum = (row_pairs + column_pairs) / 2", "maximum = max(row_pairs, column_pairs)", SCORED),
    "error over colours": ("evaluation/decomposition.py", "square().mean((1, 2, 3))", "square().sum((1, 2, 3))", SCORED),
    "draws of a control": ("evaluation/decomposition.py", "default_rng(seed).integers(0, slots", "default_rng(seed + 1).integers(0, slots", ("evaluation/decomposition",)),
    "what is active": ("evaluation/traversal.py", "ACTIVE = 0.01", "ACTIVE = 0.8", ("evaluation/traversal",)),
    "what changes": ("evaluation/leak.py", "CHANGED = 0.1", "CHANGED = 0.05", ("evaluation/leak",)),
    "floor of an entropy": ("evaluation/parts/dci.py", "importance + 1e-11", "importance + 1e-3", ("evaluation/disentanglement",)),
    "slots for objects": ("evaluation/generalisation.py", "slots = job.settings.more_slots", "slots = job.settings.more_slots - 1", ("evaluation/generalisation",)),
    # data
    "a crop's row": ("data/clevr_renderer.py", "= 64, 29, 192", "= 64, 30, 192", ("data/clevr6*",)),
    "who is in the data set": ("data/clevr6.py", "most=6", "most=7", ("data/clevr6*",)),
    "order of two draws": (
        "data/tetrominoes.py",
        "    shapes = generator.integers(1, len(SHAPES) + 1, (count, PIECES))\n    colors = COLORS[generator.integers(len(COLORS), size=(count, PIECES))]\n",
        "    colors = COLORS[generator.integers(len(COLORS), size=(count, PIECES))]\n    shapes = generator.integers(1, len(SHAPES) + 1, (count, PIECES))\n",
        ("data/tetrominoes-replica",),
    ),
    "number of a label": ("data/description.py", "labels[inside[entity]] = entity", "labels[inside[entity]] = len(masks) - entity", ("data/tetrominoes*", "data/multi_dsprites*", "data/clevr6-published")),
    "filter of the resizing": ("data/prepare.py", "Image.Resampling.BICUBIC", "Image.Resampling.BILINEAR", ("data/tetrominoes*", "data/multi_dsprites*", "data/clevr6-published")),
    "length of a heart": ("data/multi_dsprites.py", "5.149, 8.777", "5.149, 7.0", ("data/multi_dsprites*",)),
    "order of the splits": ("data/prepare.py", '"test": settings.test, "validation": settings.validation}', '"validation": settings.validation, "test": settings.test}', ("data/*-replica", "data/*-published")),
}  # fmt: skip


RENOVATIONS = {
    "another message": ("training/checkpoints.py", "delete it to start afresh\"\n        )\n    return state", "delete it to begin again\"\n        )\n    return state"),
    "a dead function": ("training/engine.py", "", "\n\ndef unused(x: int) -> int:\n    return x + 1\n"),
    "a log line": ("training/step.py", "        rate = learning_rate(step, self._settings)\n", "        rate = learning_rate(step, self._settings)\n        if step < 0:\n            print(rate)\n"),
    "a named constant": ("training/step.py", "betas=(settings.beta1, 0.999)", "betas=(settings.beta1, 1 - 1e-3)"),
    "another local name": ("training/step.py", "    epoch, position = divmod(step, batches_per_epoch)\n    return _epoch_permutation(seed, epoch, images, device)[position * batch_size : (position + 1) * batch_size]", "    era, place = divmod(step, batches_per_epoch)\n    return _epoch_permutation(seed, era, images, device)[place * batch_size : (place + 1) * batch_size]"),
    "no type hints": ("training/schedules.py", "def learning_rate(step: int, settings: TrainingSettings) -> float:", "def learning_rate(step, settings):"),
    "a condition instead of a minimum": ("training/schedules.py", "    warmup = min(1.0, step / settings.warmup_steps) if settings.warmup_steps else 1.0\n", "    warmup = 1.0\n    if settings.warmup_steps and step < settings.warmup_steps:\n        warmup = step / settings.warmup_steps\n"),
    "a comment": ("models/emorl.py", "        # Stage 1: bottom-up inference\n", "        # The first stage goes from the bottom up.\n"),
    "a docstring": ("models/parts/recurrences.py", '"""The ablation "w/o DualGRU": one GRU', '"""The ablation without DualGRU: one GRU'),
    "a loop instead of a comprehension": ("models/emorl.py", "        return [(I + 3 - i) / (I + 1) for i in range(I + 1)]", "        weights = []\n        for i in range(I + 1):\n            weights.append((I + 3 - i) / (I + 1))\n        return weights"),
    "factors in another order": ("models/emorl.py", "loss = (q.kl + beta * q.nll).sum() / reference_batch", "loss = (q.nll * beta + q.kl).sum() / reference_batch"),
    "terms in another order": ("models/parts/latents.py", "terms = 0.5 * (std.square() + mean.square() - 1) - std.log()", "terms = 0.5 * mean.square() - std.log() + 0.5 * (std.square() - 1)"),
    "an operator for a method": ("models/parts/likelihoods.py", "squared = (images - mean).square().sum((1, 2, 3))", "squared = ((images - mean) ** 2).flatten(1).sum(1)"),
    "a sum of exponentials": ("models/parts/stick_breaking.py", "F.logsigmoid(-logits).cumsum(1)", "(F.logsigmoid(logits) - logits).cumsum(1)"),
    "a product by einsum": ("models/parts/attention.py", "@ keys.transpose(1, 2)", "@ keys.permute(0, 2, 1)"),
    "a gate the other way round": ("models/parts/recurrences.py", "(1 - update) * candidate + update * hidden", "candidate + update * (hidden - candidate)"),
    "an early return": ("models/parts/geco.py", "        return self.weight_after_training() if self.active(step) else torch.ones_like(self.zeta)", "        if not self.active(step):\n            return torch.ones_like(self.zeta)\n        return self.weight_after_training()"),
    "a step of an average": ("models/parts/geco.py", "self.ema.lerp_(constraint, 1 - self.settings.alpha)", "self.ema.copy_(self.settings.alpha * self.ema + (1 - self.settings.alpha) * constraint)"),
    "another error for bad input": ("models/emorl.py", "steps must start at 0 and increase", "steps must increase from 0"),
    "a mean by hand": ("evaluation/decomposition.py", "(result.reconstruction - images).square().mean((1, 2, 3))", "(result.reconstruction - images).square().flatten(1).mean(1)"),
    "a union by itself": ("evaluation/parts/segmentation.py", "union = table.sum(1, keepdims=True) + table.sum(0, keepdims=True) - table", "union = table.sum(0, keepdims=True) - table + table.sum(1, keepdims=True)"),
    "a share without NumPy": ("evaluation/traversal.py", "float(np.mean(active))", "sum(active) / len(active)"),
    "a mask by comparison": ("data/description.py", "inside = masks != 0", "inside = masks > 0"),
    "records in a list": ("data/prepare.py", "    rows = in_threads(lambda frame: row(decode(checked(frame), layout)), read_frames(path), path, threads)", "    frames = list(read_frames(path))\n    rows = in_threads(lambda frame: row(decode(checked(frame), layout)), frames, path, threads)"),
    "a bar's text": ("data/prepare.py", "\" scenes\")", "\" records\")"),
    "an import within a function": ("data/tetrominoes.py", "    generator = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(index,)))", "    from numpy.random import SeedSequence, default_rng\n\n    generator = default_rng(SeedSequence(seed, spawn_key=(index,)))"),
}  # fmt: skip
MOVES = {
    "models/parts/geco.py": "models/parts/multiplier.py",
    "training/schedules.py": "training/rates.py",
    "data/checksums.py": "data/sums.py",
    "evaluation/parts/segmentation.py": "evaluation/parts/overlap.py",
}


@pytest.fixture(scope="module")
def overlay(tmp_path_factory) -> Overlay:
    return Overlay(tmp_path_factory.mktemp("overlay") / "project")


EVERY_THIRD = [pytest.param(name, marks=pytest.mark.drill if i % 3 == 2 else ()) for i, name in enumerate(MUTATIONS)]


@pytest.mark.slow
@pytest.mark.parametrize("mutation", EVERY_THIRD)
def test_a_changed_number_renames_what_it_touches_and_nothing_else(mutation, overlay):
    file, old, new, touched = MUTATIONS[mutation]
    with overlay.edited((file, old, new)):
        assert overlay.changed() == overlay.expand(*touched)


@pytest.mark.slow
def test_renovations_rename_nothing(overlay):
    """All at once, as a renaming by one would show; only if it does, one after the other to say which."""
    with overlay.edited(*RENOVATIONS.values()):
        renamed = overlay.changed()
    if renamed:
        culprits = {}
        for name, edit in RENOVATIONS.items():
            with overlay.edited(edit):
                culprits[name] = overlay.changed()
        raise AssertionError({name: changed for name, changed in culprits.items() if changed} or renamed)


@pytest.mark.slow
@pytest.mark.parametrize("old", MOVES)
def test_a_module_by_another_name_renames_nothing(old, overlay):
    with overlay.moved(old, MOVES[old]):
        assert overlay.changed() == set()
