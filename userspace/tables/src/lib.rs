//! Model to compiled Tables, and the one decision function.
