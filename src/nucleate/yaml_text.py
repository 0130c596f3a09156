"""YAML texts → values, strictly: no duplicate keys, no exploding aliases."""

from __future__ import annotations

from typing import Any

from nucleate.errors import ConfigError

_YAML_VALUES = 100_000  # limit per text, after expansion of aliases


def parse_yaml(text: str, owner: str) -> Any:  # noqa: ANN401
    """Parse a YAML text; a duplicate key is an error."""
    import yaml

    class Strict(yaml.SafeLoader):
        pass

    def mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[Any, Any]:
        keys = [loader.construct_object(key, deep=True) for key, _ in node.value]
        twice = next((key for i, key in enumerate(keys) if key in keys[:i]), None)
        if twice is not None:
            raise yaml.YAMLError(f"the key {twice!r} is given twice")
        loader.flatten_mapping(node)
        return dict(loader.construct_pairs(node, deep=True))

    Strict.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)
    try:
        return load_yaml(text, Strict, owner)
    except (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError,
            RecursionError) as error:  # fmt: skip
        said = " ".join(str(error).split())[:200]
        raise ConfigError(f"{owner}: not valid YAML ({said}). Correct the file.") from error


def load_yaml(text: str, loader: type[Any], owner: object) -> Any:  # noqa: ANN401
    """Load a YAML text whose aliases expand to a limited number of values.

    Args:
        text: YAML.
        loader: a subclass of yaml.SafeLoader.
        owner: subject of error messages.

    Raises:
        ConfigError: with aliases expanded, it has more than 100,000 values, or infinitely many.
        yaml.YAMLError: the text is not valid YAML.
    """
    reader = loader(text)
    try:
        node = reader.get_single_node()
        if node is None:
            return None
        if _expanded(node, {}) > _YAML_VALUES:
            raise ConfigError(
                f"{owner}: its aliases (*name) expand to more than {_YAML_VALUES:,} values. Write "
                "the values out."
            )
        return reader.construct_document(node)
    finally:
        reader.dispose()


def _expanded(node: Any, known: dict[int, int]) -> int:  # noqa: ANN401
    """Count the values of a YAML node after expansion of aliases."""
    if id(node) in known:
        return known[id(node)]
    known[id(node)] = _YAML_VALUES + 1  # reached again if the node contains itself
    count = 1
    if isinstance(node.value, list):
        for item in node.value:
            count += sum(
                _expanded(n, known) for n in (item if isinstance(item, tuple) else (item,))
            )
    known[id(node)] = count
    return count
