"""The text of a body: which characters its bytes stand for. Pure.

A page names its charset, and the names that Python knows are more than those of charsets: some decoders take quadratic
time (punycode), some unpack. So only what browsers know is believed, and all else is read as UTF-8.
"""

from __future__ import annotations

import codecs
import re
from email.message import Message

_META_BYTES = 4_096
_META = re.compile(rb"<meta[^>]{0,400}?charset\s*=\s*[\"']?\s*([A-Za-z0-9_:.-]{2,40})", re.IGNORECASE)
_XML = re.compile(rb"^\s*<\?xml[^>]{0,200}?encoding\s*=\s*[\"']([A-Za-z0-9_:.-]{2,40})")
_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_KNOWN = frozenset({
    "utf-8", "utf-16-le", "utf-16-be", "cp866", "cp874", "cp1250", "cp1251", "cp1252", "cp1253", "cp1254",
    "cp1255", "cp1256", "cp1257", "cp1258", "iso8859-2", "iso8859-3", "iso8859-4", "iso8859-5", "iso8859-6",
    "iso8859-7", "iso8859-8", "iso8859-10", "iso8859-13", "iso8859-14", "iso8859-15", "iso8859-16", "koi8-r",
    "koi8-u", "mac-roman", "mac-cyrillic", "gbk", "gb18030", "big5", "big5hkscs", "euc_jp", "shift_jis",
    "cp932", "iso2022_jp", "euc_kr", "cp949",
})  # fmt: skip
# What the web means by a name, if it is not what the name says.
_MEANT = {"ascii": "cp1252", "iso8859-1": "cp1252", "iso8859-9": "cp1254", "gb2312": "gbk", "utf-16": "utf-16-le",
          "shift_jis": "cp932", "euc_kr": "cp949", "iso8859-11": "cp874", "tis-620": "cp874"}  # fmt: skip


def text_of(body: bytes, content_type: str = "") -> str:
    """``body`` as text. What stands for no character is replaced; nothing is raised.

    A mark at its beginning counts first, then the header, then what the page says of itself, then UTF-8 if it fits.
    """
    for mark, charset in _MARKS:
        if body.startswith(mark):
            return body[len(mark) :].decode(charset, "replace")
    said = _of_header(content_type) or _of_page(body)
    if said:
        return body.decode(said, "replace")
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        # A body that was cut may end in the middle of a character.
        is_cut = error.reason == "unexpected end of data"
        return body.decode("utf-8" if is_cut else "cp1252", "replace")


def _of_header(content_type: str) -> str:
    message = Message()
    message["content-type"] = " ".join(content_type.split())
    name = message.get_param("charset")
    return _codec(name) if isinstance(name, str) else ""


def _of_page(body: bytes) -> str:
    start = body[:_META_BYTES]
    found = _XML.search(start) or _META.search(start)
    name = _codec(found[1].decode("ascii")) if found else ""
    # A page that could be read so far cannot be UTF-16.
    return "utf-8" if name.startswith("utf-16") else name


def _codec(name: str) -> str:
    """Python's name of a charset that the web knows; empty for any other."""
    try:
        found = codecs.lookup(name.strip()).name
    except (LookupError, ValueError):
        return ""
    found = _MEANT.get(found, found)
    return found if found in _KNOWN else ""
