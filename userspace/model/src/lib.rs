//! Istio YAML to a valid Model, or every diagnostic.
