"""Guesses the type of a file from its first bytes. Pure."""

from __future__ import annotations

PICKLES = tuple(b"\x80" + bytes([protocol]) for protocol in range(2, 6))
_STARTS = {
    b"version https://git-lfs": "a Git LFS pointer, not the file: `git lfs pull` fetches it",
    b"PK": "a zip archive, as .npz, .keras and .pt are",
    b"\x89HDF": "an HDF5 file, as Keras' .h5 is",
    b"\x93NUMPY": "one array (.npy); a model is named arrays: numpy.savez writes them",
    b"\x1f\x8b": "a gzip archive: unpack it first",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"%PDF": "a PDF document",
    **dict.fromkeys(PICKLES, "a pickle, which may run code and is never opened: save it as safetensors or .npz"),
}
_TEXTS = {b"{": "JSON", b"<": "a page of HTML or XML: was it downloaded from the right address?"}
_SPACES = str.maketrans("\t\r\n", "   ")


def found_instead(head: bytes) -> str:
    """Returns what a file with these first (64) bytes is, with a remedy if there is one; "" for an unknown type."""
    if not head:
        return "nothing: it is empty"
    for start, words in _STARTS.items():
        if head.startswith(start):
            return words
    if not head.isascii() or not head.decode().translate(_SPACES).isprintable():
        return ""
    return _TEXTS.get(head.lstrip()[:1], "text")
