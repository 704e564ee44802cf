"""The order in which the gallery tells its stories."""

STORIES = (
    "quickstart",
    "image_parts",
    "grid_search",
    "lvq_relevances",
    "tree_paths",
    "reasoning",
    "certified_accuracy",
    "text_pipeline",
    "protovit",
    "compare_similarity",
    "autoencoder",
    "pretrained_encoder",
    "report",
    "displays",
    "editing",
    "shortcut",
    "attributes",
    "metrics",
    "persistence",
)


def order(filename):
    """Return the place of a script; those not named come last, by name."""
    story = filename.removeprefix("plot_").removesuffix(".py")
    place = STORIES.index(story) if story in STORIES else len(STORIES)
    return f"{place:03d} {story}"
