"""Model cards: the facts about a model, and how they are written down."""
