"""The first wall: a statement is parsed before it is sent, and refused unless all of it is known to be reading. Pure.

What a refusal says is read by whoever wrote the statement, often a model: it names the part and what would be right.
"""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Iterator

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from actors.toolbox.sql.dialect import ROWS_OF_THEIR_OWN, Dialect
from actors.toolbox.sql.rules import Rules
from bus.failure import TerminalError

# What it cannot read in full it says on stderr too; here it becomes a refusal.
logging.getLogger("sqlglot").setLevel(logging.ERROR)

QUERY_LIMIT_CHARS = 50_000
_SHOW = re.compile(r"\s*[\w.]+(\s+[\w.]+)?\s*", re.ASCII)
_FILE = re.compile(r"[./\\:*?\[]")
# What sqlglot and a database may read differently; a name in escapes would be another one to each of them.
_READ_TWO_WAYS = (
    (
        re.compile(r"\bU&\s*[\"']", re.IGNORECASE),
        "names and texts with U& are refused: write the characters themselves",
    ),
    (re.compile(r"\{#"), "templates, {# ... #}, are no SQL"),
    (
        re.compile(r"[\x00-\x08\x0b-\x1f\x7f\x85\u2028\u2029]"),
        "control characters are refused: blanks and line breaks will do",
    ),
)
_EXPLAIN_WORDS = frozenset({"ANALYZE", "VERBOSE", "QUERY", "PLAN"})
_READING = (exp.Query, exp.Values)
_WRITING = (exp.Insert, exp.Update, exp.Delete, exp.Merge, exp.Create, exp.Drop, exp.Alter, exp.TruncateTable)
_MADE_OR_DROPPED = frozenset({"TABLE", "VIEW", "INDEX"})
# Whatever is none of these two and does something, wherever in the tree it stands.
_NEVER = (exp.Command, exp.Copy, exp.Attach, exp.Detach, exp.Pragma, exp.Set, exp.Use, exp.Transaction, exp.Commit,
          exp.Rollback, exp.Install, exp.Kill, exp.LoadData, exp.Analyze, exp.Comment, exp.Grant, exp.Revoke, exp.Cache,
          exp.Uncache, exp.Refresh, exp.Export, exp.Execute, exp.Declare, exp.Put, exp.Get, exp.Block)  # fmt: skip


class Refused(TerminalError):
    """The guard does not let this statement through; the message says which part and what would be right."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="refused_sql")


def check(query: str, rules: Rules) -> str:
    """The one statement of ``query`` without its semicolon, if the rules allow it. Raises: Refused."""
    text = query.replace("\r\n", "\n").strip()
    if len(text) > QUERY_LIMIT_CHARS:
        raise Refused(f"the statement has {len(text):,} characters, the limit is {QUERY_LIMIT_CHARS:,}")
    for pattern, refusal in _READ_TWO_WAYS:
        if pattern.search(text):
            raise Refused(refusal)
    inner = _without_explain(text, rules.dialect)
    tree = _parsed(inner, rules.dialect)
    _check_root(tree, rules, is_explained=inner is not text)
    for node in tree.walk():
        _check_node(node, rules)
    return text.rstrip("; \t\r\n") if text.endswith(";") else text


# ---- parsing


def _parsed(text: str, dialect: Dialect) -> exp.Expr:
    try:
        statements = [each for each in sqlglot.parse(text, dialect=dialect.name) if each is not None]
    except SqlglotError as error:
        said = re.sub(r"\x1b\[\d+m", "", str(error)).split("\n")[0]
        raise Refused(f"this is no {dialect.title} that can be read: {said}") from None
    except RecursionError:
        raise Refused("the statement is nested too deeply") from None
    if len(statements) != 1:
        raise Refused(f"one statement at a time; these are {len(statements)}")
    return statements[0]


def _without_explain(text: str, dialect: Dialect) -> str:
    """What EXPLAIN explains; ``text`` itself if it is no EXPLAIN. sqlglot takes all behind that word as a string."""
    try:
        tokens = sqlglot.tokenize(text, dialect=dialect.name)
    except SqlglotError as error:
        said = re.sub(r"\x1b\[\d+m", "", str(error)).split("\n")[0]
        raise Refused(f"this is no {dialect.title} that can be read: {said}") from None
    if not tokens or tokens[0].text.upper() != "EXPLAIN":
        return text
    # The options are looked for in the text behind the word, since sqlglot may make one token of it.
    rest = text[tokens[0].start + len("EXPLAIN") :]
    while found := re.match(r"\s*(\w+)\b", rest):
        if found[1].upper() not in _EXPLAIN_WORDS:
            break
        rest = rest[found.end() :]
    if options := re.match(r"\s*\((?!\s*(?:select|with|values|from|table|\())[\w\s,]*\)", rest, re.IGNORECASE):
        rest = rest[options.end() :]
    return rest


# ---- what it does


def _check_root(tree: exp.Expr, rules: Rules, *, is_explained: bool) -> None:
    if isinstance(tree, _READING):
        return
    if not is_explained and _tells_about(tree, rules):
        return
    if isinstance(tree, _WRITING) and not rules.read_only:
        _check_written(tree, rules)
        return
    if isinstance(tree, exp.Condition | exp.Alias):
        raise Refused("this is no statement; write SELECT ... or WITH ... SELECT ...")
    word = _word(tree)
    if rules.read_only:
        raise Refused(f"{word} is refused: this tool only reads; write SELECT ... or WITH ... SELECT ...")
    raise Refused(f"{word} is refused: this tool takes SELECT, INSERT, UPDATE, DELETE, MERGE, and CREATE, ALTER or "
                  "DROP of a table, view or index")  # fmt: skip


def _tells_about(tree: exp.Expr, rules: Rules) -> bool:
    """DESCRIBE and SUMMARIZE of a table or query, SHOW of a setting; with an allowlist only of what it names."""
    match tree:
        case exp.Describe() | exp.Summarize():
            return rules.dialect.name == "duckdb" and isinstance(tree.this, exp.Table | exp.Query)
        case exp.Show():
            return rules.dialect.name == "duckdb" and rules.tables is None
        case exp.Command() if str(tree.this).upper() == "SHOW" and rules.dialect.name == "postgres":
            return rules.tables is None and _SHOW.fullmatch(str(tree.expression.name or tree.expression)) is not None
        case _:
            return False


def _check_written(tree: exp.Expr, rules: Rules) -> None:
    kind = str(tree.args.get("kind") or "TABLE").upper()
    if isinstance(tree, exp.Create | exp.Drop | exp.Alter) and kind not in _MADE_OR_DROPPED:
        raise Refused(f"{_word(tree)} {kind} is refused: a table, a view or an index can be")
    if isinstance(tree, exp.Create) and rules.tables is not None:
        raise Refused(f"CREATE is refused: this tool is for the tables {rules.open_tables}")


def _word(tree: exp.Expr) -> str:
    return str(tree.this).upper() if isinstance(tree, exp.Command) else tree.key.upper()


def _check_node(node: exp.Expr, rules: Rules) -> None:
    match node:
        case exp.Command() if node.parent is None and _tells_about(node, rules):
            return
        case exp.Into():
            raise Refused("SELECT ... INTO is refused: it makes a table")
        case exp.Lock() if rules.read_only:
            raise Refused("FOR UPDATE and FOR SHARE are refused: they lock rows; leave them out")
        case exp.Func():
            _check_function(node, rules)
        case exp.Table():
            _check_table(node, rules)
        case exp.Dot() if isinstance(node.expression, exp.Anonymous):
            return  # its function is a node of its own
        case _ if isinstance(node, _NEVER) or (rules.read_only and isinstance(node, _WRITING)):
            raise Refused(f"{_word(node)} is refused, also within a query: this tool only reads")
        case _:
            return


# ---- functions


def _check_function(node: exp.Func, rules: Rules) -> None:
    for name in _function_names(node):
        if rules.dialect.refuses(name, with_files=rules.with_files):
            raise Refused(f"function {name} is refused: it does more than to compute from the tables")


def _function_names(node: exp.Func) -> Iterator[str]:
    if isinstance(node, exp.Anonymous):
        yield node.name
    else:
        yield from node.sql_names()
        yield node.key
        yield from (str(name) for name in (node.meta.get("name"),) if name)


# ---- tables


def _check_table(node: exp.Table, rules: Rules) -> None:
    if isinstance(node.this, exp.Func):
        _check_rows_of(node.this, rules)
        return
    if rules.dialect.hides(node.name):
        raise Refused(
            f"{node.name} is refused: it tells about the server and not about the data; sql_schema tells more"
        )
    if _is_file(node, rules):
        raise Refused(f"{node.name!r} names a file, and files are not read here; tables are told by sql_schema")
    if rules.tables is None or _is_of_the_query(node, rules.dialect):
        return
    name = full_name(node, rules.dialect)
    if name not in rules.tables:
        near = difflib.get_close_matches(name, rules.tables, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise Refused(f"table {name} is not open to this tool; {hint}these are: {rules.open_tables}")


def _check_rows_of(function: exp.Func, rules: Rules) -> None:
    names = {name.lower() for name in _function_names(function)}
    allowed = ROWS_OF_THEIR_OWN | (rules.dialect.files if rules.with_files else frozenset())
    if rules.tables is not None and not names & allowed:
        raise Refused(f"rows of function {min(names)} are refused: this tool is for the tables {rules.open_tables}")


def _is_file(node: exp.Table, rules: Rules) -> bool:
    if rules.dialect.name != "duckdb" or rules.with_files or not isinstance(node.this, exp.Identifier):
        return False
    return bool(node.this.quoted and _FILE.search(node.name))


def full_name(node: exp.Table, dialect: Dialect) -> str:
    """The table's name folded, with its schema unless that is the usual one."""
    name = _folded(node.this, dialect)
    parts = [_folded(part, dialect) for part in (node.args.get("catalog"), node.args.get("db")) if part]
    return name if len(parts) == 1 and parts[0] in dialect.schemas else ".".join([*parts, name])


def _folded(part: object, dialect: Dialect) -> str:
    if isinstance(part, exp.Identifier):
        return dialect.fold(part.name, is_quoted=bool(part.quoted))
    return dialect.fold(getattr(part, "name", str(part)))


def _is_of_the_query(node: exp.Table, dialect: Dialect) -> bool:
    """Whether the name is that of a WITH which is in sight from there; in doubt it is taken for a table."""
    if node.args.get("db") or node.args.get("catalog"):
        return False
    name = _folded(node.this, dialect)
    withs = (at.args.get("with_") for at in _ancestors(node))
    return any(_names_before(with_, name, node, dialect) for with_ in withs if isinstance(with_, exp.With))


def _names_before(with_: exp.With, name: str, node: exp.Table, dialect: Dialect) -> bool:
    """A part of WITH sees those before it, itself only if it is RECURSIVE."""
    ancestors = set(map(id, _ancestors(node)))
    for cte in with_.expressions:
        is_within = id(cte) in ancestors
        alias = cte.args["alias"].this
        if _folded(alias, dialect) == name:
            return not is_within or bool(with_.args.get("recursive"))
        if is_within:
            return False
    return False


def _ancestors(node: exp.Expr) -> Iterator[exp.Expr]:
    at = node.parent
    while at is not None:
        yield at
        at = at.parent
