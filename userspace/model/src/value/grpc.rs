//! Statuses of gRPC.

/// The number of a gRPC status by its name (google.rpc.Code); nothing if there is none of this name.
pub fn grpc_status(name: &str) -> Option<u32> {
    let place = NAMES.iter().position(|known| *known == name)?;
    u32::try_from(place).ok()
}

/// In the order of their numbers.
const NAMES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];
