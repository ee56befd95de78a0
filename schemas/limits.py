"""Bounds on what goes over the wire."""

MAX_PAYLOAD_BYTES = 256 * 1024
MAX_COMMANDS_PER_RECORD = 500
MAX_RECORD_BYTES = 256 * 1024
MAX_MESSAGE_BYTES = 2 * 1024 * 1024
MAX_JOBS_PER_SUBMIT = 1000
MAX_SUBMIT_BYTES = 8 * 1024 * 1024
MAX_NAME_LENGTH = 100
MAX_TAGS = 32
MAX_TAG_LENGTH = 256
MAX_KEY_LENGTH = 256
MAX_DUE_AHEAD_MS = 10 * 366 * 24 * 3600 * 1000
MAX_RESULT_BYTES = 256 * 1024
MAX_ERROR_BYTES = 16 * 1024
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$"
#: Ids of commands, workers, incarnations and the like; names of streams. In bytes of UTF-8.
MAX_ID_BYTES = 128
MAX_STREAM_BYTES = 256
#: One command, encoded: every record that follows from it then fits into a message.
MAX_COMMAND_BYTES = 1024 * 1024
#: Types of errors that a retry policy can name, and characters of such a name.
MAX_GIVE_UP_ON = 32
MAX_ERROR_TYPE_LENGTH = 200
