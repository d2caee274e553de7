"""What cannot be done with a stored response."""


class NoSuchResponse(Exception):
    def __init__(self, id: str) -> None:
        super().__init__(f"Response with id '{id}' not found.")
        self.id = id


class NotCancellable(Exception):
    def __init__(self, id: str, status: str, *, is_background: bool) -> None:
        reason = f"it is {status}" if is_background else "it was not asked for with background: true"
        super().__init__(f"The response {id} cannot be cancelled: {reason}.")
