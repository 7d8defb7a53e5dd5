"""Company files in, rows out, each with its place in its file.

`files_of` finds the files that a recipe names, `read_rows` reads one file of any kind in `KINDS`.
What was detected (encoding, delimiter, sheet, header) is returned as a `FileRead`.
"""

from recipes.data.readers.faults import UnreadableFile
from recipes.data.readers.file_read import FileRead
from recipes.data.readers.kinds import KINDS
from recipes.data.readers.reading import read_rows
from recipes.data.readers.sources import files_of

__all__ = ["KINDS", "FileRead", "UnreadableFile", "files_of", "read_rows"]
