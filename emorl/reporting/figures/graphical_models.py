"""The three hierarchical priors as graphical models, with L = 3 layers (Figure 12)."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, FancyArrowPatch

from emorl.reporting.figures import drawing
from emorl.reporting.figures.style import COLOURS, PAGE_WIDTH, Keywords, figure_style, letter_panels, set_legend

NODES = {f"z{l}": (0.0, float(l)) for l in range(4)} | {"x": (1.15, 1.5)}
TEXTS = {f"z{l}": rf"$\mathbf{{z}}^{l}$" for l in range(4)} | {"x": "$x$"}
RADIUS, CURVATURE = 0.27, 0.6
ARROW: Keywords = {"arrowstyle": "-|>", "mutation_scale": 8, "zorder": 1}

INFERENCE = [("z0", "z1"), ("z1", "z2"), ("z2", "z3"), ("x", "z1"), ("x", "z2"), ("x", "z3")]  # Eq. 1
NORMAL = "N(0, I)"
PRIORS = {  # edges of p(z^{1:L}); the edge and the text of the prior in the refinement loss's KL, as it is computed
    "bottom-up prior": ([(NORMAL, "z1"), ("z1", "z2"), ("z2", "z3")], (NORMAL, "z3"), r"\mathcal{N}(0, I)"),
    "reversed prior": ([(NORMAL, "z3"), ("z3", "z2"), ("z2", "z1")], (NORMAL, "z3"), r"p(\mathbf{z}^3)"),
    "reversed prior++": (
        [(NORMAL, "z3"), ("z3", "z2"), ("z2", "z1")],
        ("z2", "z1"),
        r"p_\theta(\mathbf{z}^1 \mid \mathbf{z}^2)",
    ),
}

LOOKS: dict[str, Keywords] = {
    "inference": {"color": "black", "linestyle": "-", "linewidth": 0.9},
    "likelihood": {"color": COLOURS[2], "linestyle": ":", "linewidth": 1.3},
    "prior": {"color": COLOURS[0], "linestyle": "--", "linewidth": 1.0},
    "refined": {"color": COLOURS[1], "linestyle": "--", "linewidth": 2.2},
}
LEGEND = {
    "inference": r"inference $q_\phi(\mathbf{z}^l \mid x, \mathbf{z}^{l-1})$",
    "likelihood": r"likelihood $p_\theta(x \mid \mathbf{z}^3)$",
    "prior": r"prior $p_\theta(\mathbf{z}^{1:3})$",
    "refined": "prior in the refinement loss's KL",
}


@drawing("priors", "nothing")
def priors() -> Figure:
    """Figure 12 (Section 3.3): bottom-up prior, reversed prior and reversed prior++, a panel each.

    z^0 has no prior: it only starts inference. The last two are the same p(z^{1:3}) and differ in the prior that the
    refined posterior of the top layer is compared with. Under the bottom-up prior that is N(0, I), as the released code
    has it, and not p(z^3 | z^2) as in the paper's panel: no part of p(z^{1:3}), so it is drawn beside it.
    """
    with figure_style() as plt:
        figure, panels = plt.subplots(1, len(PRIORS), figsize=(PAGE_WIDTH, 3.3), layout="constrained")
        letter_panels(panels, PRIORS)
        for axes, (edges, refined, text) in zip(panels, PRIORS.values(), strict=True):
            _draw(axes, edges, refined)
            kl = rf"$D_{{\mathrm{{KL}}}}\left(q(\mathbf{{z}};\,\lambda^{{(3,i)}})\;\|\;{text}\right)$"
            axes.text(0.1, -0.62, f"refinement loss: {kl}", ha="center", va="center", fontsize=7)
        set_legend(figure, [Line2D([], [], **LOOKS[kind], label=text) for kind, text in LEGEND.items()], columns=4)
    return figure


def _draw(axes: Axes, edges: list[tuple[str, str]], refined: tuple[str, str]) -> None:
    nodes = {name: _node(axes, name, centre) for name, centre in NODES.items()}
    for edge in INFERENCE:
        _arrow(axes, nodes, edge, "inference", curvature=0)
    _arrow(axes, nodes, ("z3", "x"), "likelihood", curvature=-CURVATURE)
    for edge in [*edges, *([refined] if refined not in edges else [])]:
        kind = "refined" if edge == refined else "prior"
        if edge[0] == NORMAL:
            _root(axes, nodes[edge[1]], kind)
        else:  # to the left of the column of nodes, up or down
            _arrow(axes, nodes, edge, kind, CURVATURE if edge[0] > edge[1] else -CURVATURE)
    axes.set(xlim=(-1.5, 1.7), ylim=(-0.85, 3.4), aspect="equal")
    axes.set_axis_off()


def _node(axes: Axes, name: str, centre: tuple[float, float]) -> Circle:
    """White for random variables, grey for the input, as in Figure 2."""
    colour = "0.85" if name == "x" else "white"
    axes.text(*centre, TEXTS[name], ha="center", va="center", zorder=3)
    circle = Circle(centre, RADIUS, facecolor=colour, edgecolor="black", linewidth=0.8, zorder=2)
    axes.add_patch(circle)
    return circle


def _arrow(axes: Axes, nodes: dict[str, Circle], edge: tuple[str, str], kind: str, curvature: float) -> None:
    parent, child = (nodes[name] for name in edge)
    ends: Keywords = {"patchA": parent, "patchB": child, "shrinkA": 1, "shrinkB": 1}
    bend = f"arc3,rad={curvature}"
    axes.add_patch(FancyArrowPatch(parent.center, child.center, **ARROW, **ends, connectionstyle=bend, **LOOKS[kind]))


def _root(axes: Axes, child: Circle, kind: str) -> None:
    """N(0, I) to the left of the node that has it as its prior."""
    x, y = child.center
    axes.text(x - 1.0, y, r"$\mathcal{N}(0, I)$", ha="right", va="center", fontsize=7)
    axes.add_patch(FancyArrowPatch((x - 0.95, y), (x, y), **ARROW, patchB=child, shrinkA=0, shrinkB=1, **LOOKS[kind]))
