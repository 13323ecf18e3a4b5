//! One captured connection from accept to record.
