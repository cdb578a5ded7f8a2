"""What the dialects differ in for the guard: how names fold, and which functions reach out of the database."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Dialect:
    """``name`` is sqlglot's. ``refused`` and ``refused_prefixes`` are functions that read or do more than a query.

    ``hidden_tables`` are prefixes of tables of the server's own, ``plain_tables`` those of them that tell no secret.
    ``known`` are exceptions from the prefixes. ``schemas`` are where a name without a schema is looked for.
    """

    name: str
    title: str
    schemas: frozenset[str]
    refused: frozenset[str]
    refused_prefixes: tuple[str, ...] = ()
    known: frozenset[str] = frozenset()
    files: frozenset[str] = frozenset()
    has_exact_quotes: bool = False
    hidden_tables: tuple[str, ...] = ()
    plain_tables: tuple[str, ...] = ()

    def fold(self, name: str, *, is_quoted: bool = False) -> str:
        """A name as the database compares it."""
        return name if is_quoted and self.has_exact_quotes else name.lower()

    def refuses(self, function: str, *, with_files: bool = False) -> bool:
        """Whether a query may not call this function."""
        name = function.lower()
        if name in self.files:
            return not with_files
        if name in self.known:
            return False
        return name in self.refused or name.startswith(self.refused_prefixes)

    def hides(self, table: str) -> bool:
        """Whether this is a table of the server's own that a query may not read."""
        name = table.lower()
        return name.startswith(self.hidden_tables) and name not in self.known and not name.startswith(self.plain_tables)


SQLITE = Dialect(
    name="sqlite",
    title="SQLite",
    schemas=frozenset({"", "main"}),
    refused=frozenset({"load_extension", "readfile", "writefile", "edit", "fts3_tokenizer", "lsdir", "fsdir", "zipfile",
                       "sqlite_compileoption_get", "sqlite_log", "sqlite_dbpage", "sqlite_dbdata", "sqlite_dbptr",
                       "dbstat", "randomblob", "zeroblob"}),
    refused_prefixes=("pragma_",),
    known=frozenset({"pragma_table_info", "pragma_table_xinfo", "pragma_table_list", "pragma_index_list",
                     "pragma_index_info", "pragma_foreign_key_list"}),
    hidden_tables=("pragma_", "sqlite_", "dbstat"),
    plain_tables=("sqlite_schema", "sqlite_master", "sqlite_sequence", "sqlite_stat"),
)  # fmt: skip

# Everything that begins so is for administrators, but for what only formats or measures.
POSTGRES = Dialect(
    name="postgres",
    title="PostgreSQL",
    schemas=frozenset({"", "public"}),
    refused=frozenset({"set_config", "current_setting", "query_to_xml", "query_to_xmlschema",
                       "query_to_xml_and_xmlschema",
                       "table_to_xml", "table_to_xmlschema", "table_to_xml_and_xmlschema", "cursor_to_xml",
                       "cursor_to_xmlschema", "schema_to_xml", "schema_to_xmlschema", "schema_to_xml_and_xmlschema",
                       "database_to_xml", "database_to_xmlschema", "database_to_xml_and_xmlschema", "ts_stat",
                       "nextval", "setval", "txid_current", "crosstab", "connectby", "xpath_table",
                       "gin_clean_pending_list", "brin_summarize_new_values", "brin_desummarize_range"}),
    refused_prefixes=("pg_", "lo_", "dblink", "binary_upgrade_", "file_fdw", "postgres_fdw", "inet_server",
                      "inet_client"),
    known=frozenset({"pg_typeof", "pg_size_pretty", "pg_column_size", "pg_table_size", "pg_relation_size",
                     "pg_total_relation_size", "pg_indexes_size", "pg_get_expr", "pg_get_viewdef",
                     "pg_get_constraintdef",
                     "pg_get_indexdef", "pg_table_is_visible", "pg_get_userbyid"}),
    has_exact_quotes=True,
    hidden_tables=("pg_",),
    plain_tables=("pg_class", "pg_namespace", "pg_attr", "pg_type", "pg_index", "pg_constraint", "pg_tables",
                  "pg_views", "pg_matviews", "pg_description", "pg_enum"),
)  # fmt: skip

DUCKDB = Dialect(
    name="duckdb",
    title="DuckDB",
    schemas=frozenset({"", "main"}),
    refused=frozenset({"query", "query_table", "getenv", "sniff_csv", "glob", "which_secret", "duckdb_secrets",
                       "duckdb_settings", "duckdb_logs", "enable_logging", "disable_logging", "truncate_duckdb_logs",
                       "force_checkpoint", "checkpoint", "nextval", "json_execute_serialized_sql", "from_substrait",
                       "from_substrait_json", "sql_auto_complete", "add_parquet_key", "st_read", "seq_scan",
                       "load_aws_credentials", "pragma_user_agent", "write_log", "current_setting", "getvariable"}),
    refused_prefixes=("read_", "parquet_", "sqlite_", "postgres_", "mysql_", "iceberg_", "delta_", "http_",
                      "arrow_scan", "pandas_scan", "python_", "st_read", "pragma_", "import_", "export_"),
    known=frozenset({"pragma_table_info"}),
    files=frozenset({"read_csv", "read_csv_auto", "read_parquet", "parquet_scan", "read_json", "read_json_auto",
                     "read_ndjson", "read_ndjson_auto", "glob"}),
)  # fmt: skip

# With an allowlist of tables a query may select from these functions and from no other one.
ROWS_OF_THEIR_OWN = frozenset({
    "generate_series", "generate_subscripts", "range", "unnest", "json_each", "json_tree", "json_each_text",
    "jsonb_each", "jsonb_each_text", "json_array_elements", "json_array_elements_text", "jsonb_array_elements",
    "jsonb_array_elements_text", "json_object_keys", "jsonb_object_keys", "regexp_matches", "regexp_split_to_table",
    "string_to_table", "json_to_record", "json_to_recordset", "jsonb_to_record", "jsonb_to_recordset",
    "explode", "exploding_generate_series", "generate_date_array", "repeat_row",
})  # fmt: skip
