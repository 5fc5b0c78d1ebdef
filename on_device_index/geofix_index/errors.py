"""What can go wrong beyond bad arguments, which raise ValueError or TypeError."""


class ShardFormatError(ValueError):
    """Bytes that are no codebook or shard, or that contradict themselves."""
