//! DNS answers from Tables, and resolution for clusters.
