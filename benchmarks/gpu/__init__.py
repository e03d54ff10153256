"""What a GPU says of this project, asked by one script within minutes: see README.md."""
