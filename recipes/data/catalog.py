"""Every kind of fault that `assay check` looks for. `docs/data-checks.md` is made from this file.

Sentences are for a data person who does not know machine learning. A way out names the recipe key.
"""

from __future__ import annotations

from recipes.data.findings import FindingKind

# --- files and rows --------------------------------------------------------------------------

UNUSABLE_ROW = FindingKind(
    "unusable-row",
    "error",
    "A row cannot be read, or lacks something that the recipe needs.",
    "Correct these rows, or set data.drop_bad_rows: true to leave them out (counted and listed).",
    drops_row=True,
)

EMPTY_FILE = FindingKind(
    "empty-file",
    "error",
    "A file holds no rows.",
    "Give it rows, or take it out of data.train or data.test. If the rows of a workbook are on "
    "another sheet, set data.sheet to its name.",
)

UNREADABLE_FILE = FindingKind(
    "unreadable-file",
    "error",
    "A file cannot be read, or not to its end: it is damaged, or not of the kind that its name "
    "says.",
    "Export the file again, correct it at the place that is named, or take it out of data.train "
    "or data.test.",
)

UNCLOSED_QUOTE = FindingKind(
    "unclosed-quote",
    "error",
    "A row of a table opens a quote and never closes it. The lines after it were read as rows of "
    "their own, but they may belong to it.",
    'Close the quote, or double it (write "" for ") if it is a part of the text.',
)

DOUBLED_COLUMN = FindingKind(
    "doubled-column",
    "error",
    "Two columns of a file have the same name. The first one was read.",
    "Rename one of them, or delete it. If the first is the right one, or neither is used, set "
    "data.findings: {doubled-column: warning}.",
)

MISSING_COLUMN = FindingKind(
    "missing-column",
    "error",
    "A file has no column of a name that the recipe needs.",
    "Name the right columns in data.columns (ours: theirs) or data.group, rename them in the file, "
    "or take the file out of data.train or data.test.",
)

NUL_CHARACTER = FindingKind(
    "nul-character",
    "error",
    "A text holds a NUL character (a byte of zero), which is in no text. The file is damaged, or "
    "was written by a program in another encoding.",
    "Export these rows again, or set data.drop_bad_rows: true to leave them out.",
    drops_row=True,
)

TOO_FEW_ROWS = FindingKind(
    "too-few-rows",
    "error",
    "No rows are left to train on, or none to test on.",
    "Give more rows, correct those that are left out, or change data.test_fraction.",
)

# --- reading ---

WRONG_ENCODING = FindingKind(
    "wrong-encoding",
    "error",
    "A line holds bytes that are no text in the encoding in which the rest of its file is written.",
    "Save these lines in the file's own encoding, set data.encoding if another is right for the "
    "whole file, or leave the lines out with data.drop_bad_rows: true.",
    drops_row=True,
)

LINES_ABOVE_HEADER = FindingKind(
    "lines-above-header",
    "warning",
    "Lines above the row that names the columns were taken for a title and not read.",
    "If another line names the columns, set data.header_row to its number.",
)

CELL_ERROR = FindingKind(
    "cell-error",
    "error",
    "A cell of a workbook shows an error, such as #N/A, in place of a value.",
    "Correct the formula and save the workbook, or leave the rows out with data.drop_bad_rows: "
    "true.",
    drops_row=True,
)

ROUNDED_NUMBER = FindingKind(
    "rounded-number",
    "warning",
    "A cell holds a number of 16 or more digits. Excel keeps 15 and sets the others to zero, so "
    "two different numbers may have become one.",
    "Export such numbers as text.",
)

UNKNOWN_FILE = FindingKind(
    "unknown-file",
    "warning",
    "A folder of the recipe holds a file of a kind that cannot be read. It was left out.",
    "Save it in a kind that can be read (such as .csv, .jsonl, .xlsx or .parquet), or name the "
    "files to be read in data.train.",
)

# --- labels, groups and ids --------------------------------------------------------------------

LABEL_NOT_LEARNED = FindingKind(
    "label-not-learned",
    "error",
    "A label of the test or validation rows is in no training row, so it cannot be learned.",
    "Add training rows with that label, or correct its spelling with data.label_map.",
)

MISSING_GROUP = FindingKind(
    "missing-group",
    "error",
    "A row has no value in the group column (data.group), so its owner is not known.",
    "Fill the column in, or leave these rows out with data.findings: {missing-group: warning}.",
    drops_row=True,
)

ID_FORMS_JOINED = FindingKind(
    "id-forms-joined",
    "warning",
    "A value of the group column is written in several forms, such as 3, 3.0 and ' 3 '. They are "
    "taken as one.",
    "Nothing, if they mean the same; else make the values different in the files.",
)

AMBIGUOUS_IDS = FindingKind(
    "ambiguous-ids",
    "warning",
    "Values of the group column differ only in case, leading zeros or exponents (7 and 007, "
    "100000 and 1E5) and could be the same. They are taken as different. Where the column is the "
    "unit of privacy, this is an error, because epsilon depends on it.",
    "Write each value in one form in all files; if they do differ, set data.findings: "
    "{ambiguous-ids: ignore}.",
)

ONE_CLASS = FindingKind(
    "one-class",
    "error",
    "The training rows have fewer than two labels, so there is nothing to tell apart.",
    "Give rows with at least two labels, or name the right column in data.columns: {label: ...}.",
)

MIXED_LABEL_FORMS = FindingKind(
    "mixed-label-forms",
    "error",
    "Some rows have one label and some a list of labels.",
    "Use one form for all rows: a list (column labels), or one label (column label).",
)

EMPTY_LABEL = FindingKind(
    "empty-label",
    "error",
    "A row has no label.",
    "Label these rows, or leave them out with data.findings: {empty-label: warning}.",
    drops_row=True,
)

LABEL_SPELLINGS = FindingKind(
    "label-spellings",
    "error",
    "Labels differ only in form (case, blanks, invisible characters, accents stored in two ways, "
    "3 and 3.0, y and yes, 1 and true), and each would become a class of its own.",
    "Write the label_map that is printed with it under `data:` of the recipe, or correct the "
    "labels in the file. If each is a class of its own, set data.findings: {label-spellings: "
    "warning}.",
)

LABEL_TYPOS = FindingKind(
    "label-typos",
    "warning",
    "A rare label is spelled nearly like a frequent one.",
    "If it is a slip, add it to data.label_map; if it is a class of its own, ignore this.",
)

LABEL_LISTS = FindingKind(
    "label-lists",
    "error",
    "A cell holds several labels, and the whole cell would become one class.",
    "Set data.label_separator so that cells are divided. If a cell is one label after all, set "
    "data.findings: {label-lists: ignore}.",
)

LABEL_MAP_UNUSED = FindingKind(
    "label-map-unused",
    "error",
    "A label in data.label_map is in no row.",
    "Correct its spelling in data.label_map, or remove it.",
)

LABEL_MAPPED = FindingKind(
    "label-mapped",
    "ignore",
    "A label was replaced by data.label_map.",
    "Nothing: this is what the recipe asks for.",
)

MISSING_WORD_LABEL = FindingKind(
    "missing-word-label",
    "warning",
    "A label is a word that programs write for a missing value, such as nan, NA or null.",
    "If the label is missing, clear the cell; if it is a class, set data.findings: "
    "{missing-word-label: ignore}.",
)

MISSING_WORD_TEXT = FindingKind(
    "missing-word-text",
    "warning",
    "A text is a word that programs write for a missing value, such as nan, N/A or null.",
    "Delete these rows from the file, or give their texts.",
)

TEXT_WITHOUT_CONTENT = FindingKind(
    "text-without-content",
    "warning",
    "A text has no letters or digits, or is nothing but the note of a program, such as "
    '"[attachment]" or "Sent from my iPhone".',
    "Delete these rows from the file, or give their texts.",
)

TINY_CLASS = FindingKind(
    "tiny-class",
    "warning",
    "A class has one or two rows: too few to learn it, or to test it.",
    "Give more rows, join it with another class by data.label_map, or delete its rows.",
)

NUMBERS_AMONG_LABELS = FindingKind(
    "numbers-among-labels",
    "warning",
    "Some labels are numbers and some are words.",
    "Make sure that no column was taken for another, and that codes and names are not mixed.",
)

IMPOSSIBLE_DATE = FindingKind(
    "impossible-date",
    "warning",
    "A date does not exist, such as 2026-02-30, or 31/02/2026 in either order of day and month.",
    "Correct the date if you rely on its column; training does not read it.",
)

OTHER_LANGUAGE = FindingKind(
    "other-language",
    "warning",
    "A row seems to be in a language that hardly any other row is in.",
    "Delete these rows from the file, or give more rows in that language if it must be understood.",
)

# --- question answering ------------------------------------------------------------------------

ANSWER_NOT_IN_PASSAGE = FindingKind(
    "answer-not-in-passage",
    "error",
    "An answer is not in its passage word for word, so the model would learn to answer with words "
    "that the passage does not support.",
    "Correct the answer or the passage. If answers are meant to be in other words, set "
    "data.findings: {answer-not-in-passage: warning}.",
)

BLANK_ANSWER = FindingKind(
    "blank-answer",
    "warning",
    "The answer of a question is blank. It is learned as: the passage does not say.",
    "Give the answer if there is one; an empty list, or a column is_impossible, says that there is "
    "none.",
)

PYTHON_LIST = FindingKind(
    "python-list",
    "warning",
    "Answers are written as Python prints a list (['a', 'b']). They were read as that list.",
    'Nothing, if that is what it means; JSON (["a", "b"]) leaves no doubt.',
    once_per_file=True,
)

WRONG_OFFSET = FindingKind(
    "wrong-offset",
    "warning",
    "An answer_start does not point at its answer. Training does not read it, but it often shows "
    "that the passage was changed, or that another place was meant.",
    "Correct the offsets (characters from 0), or leave them out.",
)

IMPOSSIBLE_CONTRADICTION = FindingKind(
    "impossible-contradiction",
    "error",
    "A question is marked is_impossible and has answers, or is not marked and has none.",
    "Correct one of the two.",
)

PASSAGE_LEAK = FindingKind(
    "passage-leak",
    "warning",
    "A test question is on a passage that is in the training data too. The score is better than "
    "it will be on new passages.",
    "Split the files by passage. To allow it, set data.keep_passages_together: false.",
)

# --- leakage -----------------------------------------------------------------------------------

EXACT_LEAK = FindingKind(
    "exact-leak",
    "error",
    "A test row is in the training data word for word. A score on it measures memory, not skill.",
    "Remove the row from one side, or set data.findings: {exact-leak: warning}.",
)

GROUP_LEAK = FindingKind(
    "group-leak",
    "error",
    "Test rows belong to a group (data.group) that is in the training data too.",
    "Split the files by that column, or set data.group: null.",
)

NORMALISED_LEAK = FindingKind(
    "normalised-leak",
    "error",
    "A test row is in the training data but for case, blanks, punctuation or Unicode form. A score "
    "on it measures memory, not skill.",
    "Remove the row from one side, or set data.findings: {normalised-leak: warning}.",
)

NEAR_LEAK = FindingKind(
    "near-leak",
    "warning",
    "A test row is nearly the same as a training row (at least 70 % of their three-word sequences "
    "are in both). The score is better than it will be on new texts.",
    "Remove the row from one side, or keep such rows together with data.group, a column that they "
    "share.",
)

DUPLICATE_ROWS = FindingKind(
    "duplicate-rows",
    "warning",
    "A row occurs more than once. It counts as often in training, and in the score.",
    "Remove the copies, unless the text really occurs that often.",
)

CONFLICTING_LABELS = FindingKind(
    "conflicting-labels",
    "error",
    "The same text has different labels, so at least one of them is wrong or a matter of taste.",
    "Correct the labels. If a text may have several, list them in the column `labels`. To train "
    "on them as they are, set data.findings: {conflicting-labels: warning}.",
)

ALIKE_CONFLICTING_LABELS = FindingKind(
    "alike-conflicting-labels",
    "warning",
    "Texts that differ only in punctuation or Unicode form have different labels.",
    "Correct the labels, unless the mark changes what the text means.",
)

CONFLICTING_ANSWERS = FindingKind(
    "conflicting-answers",
    "warning",
    "The same question on the same passage has different answers.",
    "Correct them, or join the rows into one with a list of all accepted answers.",
)

CONFLICTING_REPLIES = FindingKind(
    "conflicting-replies",
    "warning",
    "The same conversation is continued by different replies. The model learns any of them.",
    "Keep the best reply, unless the variety is wanted.",
)

CLASS_NOT_TESTED = FindingKind(
    "class-not-tested",
    "warning",
    "A label is in no test row, so nothing is known of how well it is recognised.",
    "Add test rows with that label, or raise data.test_fraction.",
)

CONTAMINATION = FindingKind(
    "contamination",
    "warning",
    "A training row contains an item of a published test set that the evaluation uses. The score "
    "on that item measures memory, not skill.",
    "Remove the row, or leave that set out of the evaluation (eval.tasks).",
)

# --- chats -----------------------------------------------------------------------------------

PREFERENCE_ROW = FindingKind(
    "preference-row",
    "error",
    "A row holds a better and a worse answer (chosen, rejected) and no chat. Such rows are for "
    "preference training; here the model learns to write what a chat holds.",
    "Write the answer that is to be learned as completion, or map it: data.columns: "
    "{completion: THEIRS}. It needs to be a text, or messages after the prompt.",
    drops_row=True,
)

TURN_MALFORMED = FindingKind(
    "turn-malformed",
    "error",
    "A turn of a chat is not of the expected form: an object with a role and a content, which is a "
    "text or a list of texts.",
    "Correct these rows, or set data.drop_bad_rows: true to leave them out.",
    drops_row=True,
)

TURN_EMPTY = FindingKind(
    "turn-empty",
    "error",
    "A turn of a chat has no text and calls no tool.",
    "Add the missing text or remove the turn, or set data.drop_bad_rows: true.",
    drops_row=True,
)

ROLE_UNKNOWN = FindingKind(
    "role-unknown",
    "error",
    "It is unclear who speaks in a turn of a chat.",
    "Write the role as system, user, assistant or tool, or set data.drop_bad_rows: true.",
    drops_row=True,
)

MEDIA = FindingKind(
    "media",
    "error",
    "A chat holds an image, a sound, a video or a file. Only text is learned, and without its "
    "attachment an answer may be wrong.",
    "Remove these rows from the file, or set data.drop_bad_rows: true to leave them out.",
    drops_row=True,
)

LAST_TURN = FindingKind(
    "last-turn-not-assistant",
    "error",
    "The last turn of a chat is not by the assistant, so it has no answer to learn.",
    "End the chat with an answer, cut it after the last one, or set data.drop_bad_rows: true.",
    drops_row=True,
)

NO_USER_TURN = FindingKind(
    "no-user-turn",
    "error",
    "No turn of a chat is by the user, so its answers answer nothing.",
    "Add the question, or set data.drop_bad_rows: true to leave these rows out.",
    drops_row=True,
)

REPEATED_TURNS = FindingKind(
    "turns-repeated",
    "error",
    "Two turns of the user, or two of the assistant, follow one another. A turn may be missing, "
    "or one turn was split in two.",
    "Correct the rows, or set data.turns: {repeated: merge} to join such turns, or "
    "{repeated: keep} to learn them as they are.",
    drops_row=True,
)

LATE_SYSTEM = FindingKind(
    "system-late",
    "error",
    "A system turn is not the first turn of its chat. Many models accept only one, at the start.",
    "Correct the rows, or set data.turns: {late_system: merge} to move its text to the start, or "
    "{late_system: keep}.",
    drops_row=True,
)

ASSISTANT_FIRST = FindingKind(
    "assistant-first",
    "error",
    "A chat begins with the assistant. Its first turn answers nothing; the user's may be missing.",
    "Correct the rows, or set data.turns: {assistant_first: keep} where it is a greeting.",
    drops_row=True,
)

TURN_ORDER_ACCEPTED = FindingKind(
    "turn-order-accepted",
    "warning",
    "Turns in an unusual order were joined or kept, as data.turns of the recipe says.",
    "Nothing, if that is what you want; else change data.turns.",
)

CALL_MALFORMED = FindingKind(
    "call-malformed",
    "error",
    "A tool call, or the list of tools, cannot be read.",
    "Write a call as {type: function, function: {name: ..., arguments: {...}}} in tool_calls of a "
    "turn of the assistant, and tools as a list of objects.",
    drops_row=True,
)

CALL_ARGUMENTS = FindingKind(
    "call-arguments",
    "error",
    "The arguments of a tool call are not a JSON object. The model would learn calls that no "
    "program can read.",
    "Write the arguments as a JSON object, or set data.drop_bad_rows: true.",
    drops_row=True,
)

CALL_UNANSWERED = FindingKind(
    "call-unanswered",
    "error",
    "A tool call has no result, but the chat goes on. The model would learn to invent results.",
    "Add the tool's turn right after the call, with the call's id as tool_call_id, or set "
    "data.drop_bad_rows: true. Only a call that ends the chat needs no result.",
    drops_row=True,
)

ANSWER_WITHOUT_CALL = FindingKind(
    "answer-without-call",
    "error",
    "The result of a tool belongs to no call of the turn before it.",
    "Add the call to the turn before the results, or correct tool_call_id, or set "
    "data.drop_bad_rows: true.",
    drops_row=True,
)

CALL_ID_DUPLICATE = FindingKind(
    "call-id-duplicate",
    "error",
    "Two tool calls of a chat have the same id, or two results are for the same call.",
    "Give each call an id of its own, and its result the same id as tool_call_id.",
    drops_row=True,
)

TURN_MARK = FindingKind(
    "turn-mark-unclear",
    "error",
    "A turn is marked as one to learn or not to learn, but it is unclear which.",
    "Write train: true or train: false in the turns of the assistant (weight: 0 or 1 is the same), "
    "and remove the other mark.",
    drops_row=True,
)

TURN_MARK_UNUSED = FindingKind(
    "turn-mark-unused",
    "warning",
    "A turn that is not by the assistant is marked as one to learn. Only turns of the assistant "
    "are learned.",
    "Nothing, or remove the mark.",
    once_per_file=True,
)

CHAT_NOT_LEARNED = FindingKind(
    "chat-not-learned",
    "error",
    "Every turn of the assistant in a chat is marked as one not to learn.",
    "Remove the row or the mark, or set data.drop_bad_rows: true to leave these rows out.",
    drops_row=True,
)

SECOND_LAYOUT = FindingKind(
    "second-layout",
    "warning",
    "A row holds a chat in two layouts. Only its messages are read.",
    "Remove the column, or say with data.columns which column holds the chat.",
    once_per_file=True,
)

KEY_CASE = FindingKind(
    "key-case",
    "warning",
    "A key is written with other capital letters or spaces than usual; it was read as the usual "
    "one.",
    "Nothing, if that is what it means; else rename it.",
    once_per_file=True,
)

TURN_KEY = FindingKind(
    "turn-key-unused",
    "warning",
    "Turns have keys that are not used, so what they hold is not learned.",
    "Nothing, if it does not matter; else write it into the content.",
    once_per_file=True,
)

ROW_KEY = FindingKind(
    "row-key-unused",
    "warning",
    "Rows have keys that look like settings of the chat and are not used.",
    "Nothing, if they do not matter; else write what they mean into the turns or the recipe.",
    once_per_file=True,
)

REASONING_UNDECIDED = FindingKind(
    "reasoning-undecided",
    "error",
    "Answers come with reasoning (the model's thoughts before the answer), and the recipe does not "
    "say whether it is to be learned.",
    "Set data.reasoning: keep to learn the reasoning too (the model will then think before each "
    "answer), or data.reasoning: drop to learn the answers only.",
    drops_row=True,
)

REASONING_UNCLEAR = FindingKind(
    "reasoning-unclear",
    "error",
    "It is unclear where the reasoning of an answer ends and the answer begins.",
    "Put the reasoning before the answer, once, between <think> and </think>, or in the key "
    "reasoning_content; or set data.drop_bad_rows: true.",
    drops_row=True,
)

REASONING_WITHOUT_ANSWER = FindingKind(
    "reasoning-without-answer",
    "error",
    "A turn of the assistant holds reasoning and no answer.",
    "Add the answer after the reasoning, or set data.drop_bad_rows: true.",
    drops_row=True,
)

# --- personal data ---------------------------------------------------------------------------

PERSONAL_DATA = FindingKind(
    "personal-data",
    "error",
    "A row holds personal data or a secret, such as a mail address, a card number or an access "
    "key. A model can repeat what it is trained on.",
    "Set data.personal_data for each kind: redact replaces it by a placeholder such as <EMAIL_3>, "
    "keep trains on it. A secret that is still in use must be changed all the same.",
)

# --- rows as tokens ----------------------------------------------------------------------------

BASE_UNAVAILABLE = FindingKind(
    "base-unavailable",
    "error",
    "The base model cannot be loaded, so lengths and learned text were not checked.",
    "Correct base.checkpoint, or make the base available, and check again.",
)

NOT_ENCODABLE = FindingKind(
    "not-encodable",
    "error",
    "The base's tokenizer or chat template refuses a row.",
    "Correct the row, use another base, or give a template of your own in base.chat_template.",
)

ROW_TOO_LONG = FindingKind(
    "row-too-long",
    "error",
    "A training row is longer than train.max_length, and what is learned from it would be cut.",
    "Raise train.max_length, shorten the rows, or set train.allow_truncation: true.",
)

TEST_ROW_TOO_LONG = FindingKind(
    "test-row-too-long",
    "warning",
    "A test row is longer than train.max_length, the longest that the model is trained on.",
    "Raise train.max_length, or shorten the rows.",
)

CONTROL_TOKENS = FindingKind(
    "control-tokens",
    "warning",
    "A text holds a string that the base's tokenizer uses as a mark, such as the end of a turn. It "
    "is encoded as plain text, in training and in the evaluation, and never as the mark.",
    "Nothing, if the text is really about such marks; else remove what an export left in it.",
)

NO_STOP_TOKEN = FindingKind(
    "no-stop-token",
    "error",
    "An answer ends without a stop token, so the model would not learn where to stop.",
    "The chat template ends an assistant turn with none of the model's stop tokens. Use a base "
    "whose template does, or give a template of your own in base.chat_template.",
)

NOTHING_LEARNED = FindingKind(
    "nothing-learned",
    "error",
    "No part of a training row is learned.",
    "Raise train.max_length if the answer is cut off, or leave the row out.",
)


OF_FILES = frozenset((UNREADABLE_FILE, UNCLOSED_QUOTE, MISSING_COLUMN))
"""What leaves a file unread, or read only in part."""

ESSENTIAL = OF_FILES | {
    *(TOO_FEW_ROWS, ONE_CLASS, MIXED_LABEL_FORMS, LABEL_NOT_LEARNED),
    *(NOT_ENCODABLE, BASE_UNAVAILABLE),
}
"""What nothing can be trained on; a recipe cannot make it less than an error."""

STRUCTURAL = ESSENTIAL | {EMPTY_FILE, DOUBLED_COLUMN, EXACT_LEAK, GROUP_LEAK}
"""Beside rows that cannot be used: what makes rows unfit for every verb, not for training alone."""


def all_kinds() -> tuple[FindingKind, ...]:
    """Return every kind of finding, in the order of this file."""
    return tuple(value for value in globals().values() if isinstance(value, FindingKind))
