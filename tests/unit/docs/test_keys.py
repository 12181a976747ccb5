"""docs/keys.md is what the schema gives, and every key is described."""

import re
from pathlib import Path

import pytest

import mrlinac
from mrlinac.protocol.biology import MODEL_KINDS
from mrlinac.protocol.kinds import KINDS

ROOT = Path(mrlinac.__file__).parent.parent
pytestmark = pytest.mark.skipif(not (ROOT / "tools" / "keys.py").is_file(), reason="no source tree")


@pytest.fixture
def keys(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    import keys

    return keys


def test_the_page_is_what_the_schema_gives(keys):
    assert keys.PAGE.read_text(encoding="utf-8") == keys.page(), "run: python tools/keys.py"


def test_every_key_is_described(keys):
    missing = [key for key, text in keys.described().items() if not text]
    assert not missing, f"no description in the section Attributes: {', '.join(missing)}"


def test_every_kind_stands_on_the_page(keys):
    page = keys.page()
    for kind in (*KINDS, *MODEL_KINDS):
        assert f'kind = "{keys.kind_of(kind)}"' in page


def test_every_key_of_the_shipped_files_stands_on_the_page(keys):
    """Words before an equals sign, in every TOML file; names in quotes and of tables are the files' own."""
    page = keys.page()
    listed = {name for names in re.findall(r"^\| (`.*?) \|", page, re.M) for name in re.findall(r"`([^`]+)`", names)}
    for folder in ("protocols", "techniques", "machines", "plans"):
        for path in sorted((ROOT / folder).rglob("*.toml")):
            text = re.sub(r'"[^"]*"', '""', path.read_text(encoding="utf-8"))
            text = re.sub(r"#.*", "", text)
            used = set(re.findall(r"(?:^|[{,]\s*)([A-Za-z_][A-Za-z0-9_]*)\s*=", text, re.M))
            assert used <= listed, f"{path.name}: {sorted(used - listed)}"
