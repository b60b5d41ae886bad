"""Ways in which tables on disk are damaged."""

import pyarrow as pa
import pyarrow.parquet as pq

from analysis import results

KINDS = ["empty", "cut off", "garbled", "a flipped bit", "folder", "half of the rows", "no rows", "another number"]
KINDS += ["another column", "a column less", "another type", "other provenance"]


def damage(path, kind):
    """Damage a table whose last column holds numbers."""
    content, table = path.read_bytes(), pq.read_table(path)
    frame, about, last = table.to_pandas(), table.schema.metadata, table.column_names[-1]
    changed = {
        "half of the rows": lambda: frame[: len(frame) // 2],
        "no rows": lambda: frame[:0],
        "another number": lambda: frame.assign(**{last: frame[last] + 1e-9}),
        "another column": lambda: frame.rename(columns={last: "other"}),
        "a column less": lambda: frame.drop(columns=last),
        "another type": lambda: frame.astype({last: "float32"}),
    }
    if kind == "folder":
        path.unlink()
        path.mkdir()
    elif kind in changed:
        other = pa.Table.from_pandas(changed[kind](), preserve_index=False)
        pq.write_table(other.replace_schema_metadata(about), path)
    elif kind == "other provenance":
        pq.write_table(table.replace_schema_metadata(about | {results.METADATA: b'{"seed": 4}'}), path)
    else:
        chunk = pq.read_metadata(path).row_group(0).column(len(frame.columns) - 1)
        place = chunk.data_page_offset - 3  # among the numbers, which lie in a dictionary before the page
        flipped = content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
        bad = {"empty": b"", "cut off": content[:-40], "garbled": bytes(len(content)), "a flipped bit": flipped}
        path.write_bytes(bad[kind])
