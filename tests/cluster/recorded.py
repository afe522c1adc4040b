"""What sites answered, as text files in sites/: Slurm 22.05 printed them (tools/devcluster.sh with other
settings), `qos` is varied by hand to what 23.11 prints of nodes with GPUs."""

from __future__ import annotations

from pathlib import Path

from lt_hpc.cluster.slurm.site import (
    Site,
    parse_associations,
    parse_nodes,
    parse_partitions,
    parse_qos,
    parse_settings,
)

SITES = Path(__file__).parent / "sites"
NAMES = sorted(path.name for path in SITES.iterdir())


def site(name: str, change: tuple[str, str] = ("", "")) -> Site:
    """A recorded site; `change`: a text in its answers, and what stands there instead."""
    found = {path.stem: path.read_text() for path in (SITES / name).glob("*.txt")}
    if change[0]:
        assert any(change[0] in text for text in found.values()), change
        found = {stem: text.replace(*change) for stem, text in found.items()}
    return Site(
        parse_settings(found["config"]),
        parse_partitions(found["partition"]),
        parse_nodes(found["node"]),
        parse_associations(found["assoc"]) if "assoc" in found else None,
        parse_qos(found["qos"]) if "qos" in found else None,
    )
