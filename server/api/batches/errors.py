"""What is refused of batches."""


class UnknownBatch(Exception):
    def __init__(self, id: str) -> None:
        super().__init__(f"No such Batch object: {id}")


class TooManyBatches(Exception):
    def __init__(self, most: int) -> None:
        super().__init__(f"{most} batches are not done yet; wait for one, or cancel one.")
