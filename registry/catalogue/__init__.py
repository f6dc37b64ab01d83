"""The catalogue: which data resources exist, what they hold, who provides them, and on what terms they are shared."""
