"""The one error a user causes: it says what was found, what was needed, and what to change."""


class UserError(ValueError):
    """Bad input or a bad setting. Entry points print its message alone and exit with code 2."""


class StorageError(UserError, OSError):
    """A storage that refuses, or does not answer for too long."""


def user_error(*, found: str, needed: str, change: str) -> UserError:
    """Compose the three parts every message of this project has."""
    return UserError(f"found {found}; needed {needed}; {change}")
