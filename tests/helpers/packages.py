"""Debian's packages, as far as they are read."""

import io
import lzma
import tarfile


def deb(path, root, name="data.tar.xz", extra=(), at="./usr/share/tuxpaint"):
    """A package of a folder. extra: members of its tar, with their content."""
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w") as archive:
        archive.add(root, at)
        for member, content in extra:
            archive.addfile(member, content and io.BytesIO(content))
    content = lzma.compress(inner.getvalue())
    parts = [("debian-binary", b"2.0\n"), ("control.tar.xz", b"odd"), (name, content)]
    with path.open("wb") as file:
        file.write(b"!<arch>\n")
        for part, data in parts:
            header = f"{part:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(data):<10}`\n".encode()
            file.write(header + data + b"\n" * (len(data) % 2))
    return path
