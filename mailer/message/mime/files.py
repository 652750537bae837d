"""Names of attached files."""

from __future__ import annotations

# What SES refuses to send: developer guide, "Unsupported attachment types".
_BLOCKED = """
    ade adp app asp bas bat cer chm cmd com cpl crt csh der exe fxp gadget hlp hta inf ins isp its js jse ksh lib lnk mad
    maf mag mam maq mar mas mat mau mav maw mda mdb mde mdt mdw mdz msc msh msh1 msh2 mshxml msh1xml msh2xml msi msp mst
    ops pcd pif plg prf prg reg scf scr sct shb shs sys ps1 ps1xml ps2 ps2xml psc1 psc2 tmp url vb vbe vbs vps vsmacros
    vss vst vsw vxd ws wsc wsf wsh xnk
"""
BLOCKED_EXTENSIONS = frozenset(_BLOCKED.split())
_SHOWN = 80  # characters of a name in an error


def check_file_name(name: str) -> str:
    """Raises ValueError for a file that SES does not take."""
    extension = name.lower().rpartition(".")[2] if "." in name else ""
    if extension in BLOCKED_EXTENSIONS:
        shown = name if len(name) <= _SHOWN else f"…{name[-_SHOWN:]}"
        raise ValueError(f"{shown!r} cannot be attached: SES refuses .{extension} files; send a link, or the file in a .zip")
    return name
