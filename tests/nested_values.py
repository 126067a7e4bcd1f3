"""Where something stands in nested dicts and lists, for tests that put junk there."""


def places(value, path=()):
    """Every place in nested values, by the keys that lead there."""
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*path, key))
