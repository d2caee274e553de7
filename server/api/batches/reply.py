"""From the record of a batch to its wire type."""

import msgspec

from server.api.batches.wire import Batch, BatchErrors
from server.api.responses.wire import InputTokensDetails, OutputTokensDetails, ResponseUsage
from server.storage.records import BatchRecord, TokenUsage


def batch_reply(record: BatchRecord) -> Batch:
    """Return the wire's batch, which has the record's fields under the same names."""
    fields = msgspec.structs.asdict(record)
    fields["errors"] = BatchErrors(record.errors) if record.errors else None
    fields["usage"] = None if record.usage is None else _usage_reply(record.usage)
    return Batch(**fields)


def _usage_reply(usage: TokenUsage) -> ResponseUsage:
    return ResponseUsage(
        input_tokens=usage.input,
        input_tokens_details=InputTokensDetails(usage.cached, 0),
        output_tokens=usage.output,
        output_tokens_details=OutputTokensDetails(usage.reasoning),
        total_tokens=usage.input + usage.output,
    )
