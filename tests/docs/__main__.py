"""Write the generated documents, and say which of them changed."""

from __future__ import annotations

from . import GENERATORS, ROOT, generated

for name in GENERATORS:
    path, text = ROOT / name, generated(name)
    if path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")
        print(f"wrote {name}")
