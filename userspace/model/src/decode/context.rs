//! What reading a document collects: findings, and what they make pointless to report.

use std::collections::HashSet;
use std::sync::Arc;

use crate::decode::{At, nearest};
use crate::yaml::{Duplicate, Entry, Node, Scalar, Value};
use crate::{Diagnostic, Severity};

/// The findings of one document.
///
/// A value that could not be read is remembered, and so is a field that an unknown one was probably meant to be.
/// Findings about either, or about anything inside, are dropped: they would only repeat the first mistake in
/// other words.
#[derive(Debug)]
pub(crate) struct Cx {
    path: Arc<str>,
    diagnostics: Vec<Diagnostic>,
    /// Addresses of nodes that could not be read. Only compared, never followed.
    failed: HashSet<usize>,
    /// Maps, by address, and the field that an unknown one in them was probably meant to be.
    meant: HashSet<(usize, String)>,
    /// Maps, by address, with a field that the API does not have.
    incomplete: HashSet<usize>,
    lost_indentation: bool,
}

/// A finding just made, to which help may be added; nothing if it was dropped.
pub(crate) struct Report<'a>(Option<&'a mut Diagnostic>);

impl Report<'_> {
    /// Says what would be right.
    pub(crate) fn help(self, help: impl Into<String>) {
        if let Some(diagnostic) = self.0 {
            diagnostic.help = Some(help.into());
        }
    }
}

impl Cx {
    pub(crate) fn new(path: &Arc<str>) -> Self {
        Self {
            path: Arc::clone(path),
            diagnostics: Vec::new(),
            failed: HashSet::new(),
            meant: HashSet::new(),
            incomplete: HashSet::new(),
            lost_indentation: false,
        }
    }

    pub(crate) fn path(&self) -> &Arc<str> {
        &self.path
    }

    pub(crate) fn finish(self) -> Vec<Diagnostic> {
        self.diagnostics
    }

    pub(crate) fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error)
    }

    /// Istio refuses it.
    pub(crate) fn error(
        &mut self,
        at: &At<'_>,
        code: &'static str,
        message: impl Into<String>,
    ) -> Report<'_> {
        self.report(Severity::Error, at, code, message.into())
    }

    /// Istio accepts it with a warning, or should.
    pub(crate) fn warning(
        &mut self,
        at: &At<'_>,
        code: &'static str,
        message: impl Into<String>,
    ) -> Report<'_> {
        self.report(Severity::Warning, at, code, message.into())
    }

    /// Worth knowing.
    pub(crate) fn info(
        &mut self,
        at: &At<'_>,
        code: &'static str,
        message: impl Into<String>,
    ) -> Report<'_> {
        self.report(Severity::Info, at, code, message.into())
    }

    fn report(
        &mut self,
        severity: Severity,
        at: &At<'_>,
        code: &'static str,
        message: String,
    ) -> Report<'_> {
        if self.is_consequence(at) {
            return Report(None);
        }
        let (path, span, field) = (Arc::clone(&self.path), at.span(), at.path());
        self.diagnostics.push(Diagnostic {
            severity,
            code,
            path,
            span,
            field,
            message,
            help: None,
        });
        Report(self.diagnostics.last_mut())
    }

    /// An error after which nothing about this value or inside it is worth saying.
    pub(crate) fn fail(
        &mut self,
        at: &At<'_>,
        code: &'static str,
        message: impl Into<String>,
    ) -> Report<'_> {
        let dropped = self.is_consequence(at);
        if let Some(node) = at.node() {
            self.failed.insert(address(node));
        }
        if dropped {
            return Report(None);
        }
        let (path, span, field) = (Arc::clone(&self.path), at.span(), at.path());
        let (severity, message) = (Severity::Error, message.into());
        self.diagnostics.push(Diagnostic {
            severity,
            code,
            path,
            span,
            field,
            message,
            help: None,
        });
        Report(self.diagnostics.last_mut())
    }

    fn is_consequence(&self, at: &At<'_>) -> bool {
        if self.failed.is_empty() && self.meant.is_empty() {
            return false;
        }
        let mut step = Some(at);
        while let Some(at) = step {
            if at.node().is_some_and(|node| self.failed.contains(&address(node))) {
                return true;
            }
            let meant = at.owner().and_then(|(owner, name)| Some((address(owner.node()?), name)));
            if meant.is_some_and(|(map, name)| self.meant.contains(&(map, name.to_owned()))) {
                return true;
            }
            step = at.parent();
        }
        false
    }

    /// An error about what a map does not have. Dropped where the map has a field that the API does not know:
    /// that one was probably meant.
    pub(crate) fn lacking(
        &mut self,
        at: &At<'_>,
        code: &'static str,
        message: impl Into<String>,
    ) -> Report<'_> {
        if at.node().is_some_and(|node| self.incomplete.contains(&address(node))) {
            return Report(None);
        }
        self.error(at, code, message)
    }

    /// A value whose absence is reported here and nowhere further in.
    pub(crate) fn fail_missing(&mut self, at: &At<'_>, message: &str) {
        self.error(at, "missing-field", message);
        if let Some((owner, name)) = at.owner()
            && let Some(map) = owner.node()
        {
            self.meant.insert((address(map), name.to_owned()));
        }
    }

    /// A finding that makes all others about the document pointless.
    pub(crate) fn lost_indentation(&mut self, diagnostic: Diagnostic) {
        self.diagnostics = vec![diagnostic];
        self.lost_indentation = true;
    }

    /// Whether [`Cx::lost_indentation`] was called.
    pub(crate) fn has_lost_indentation(&self) -> bool {
        self.lost_indentation
    }

    /// A key that stands twice in one map.
    pub(crate) fn duplicate_key(&mut self, root: &At<'_>, duplicate: &Duplicate) {
        self.diagnostics.push(Diagnostic {
            severity: Severity::Error,
            code: "duplicate-key",
            path: Arc::clone(&self.path),
            span: duplicate.span,
            field: root.path_of_key(duplicate.first).unwrap_or_else(|| duplicate.key.clone()),
            message: format!("`{}` is already set in line {}", duplicate.key, duplicate.first.line),
            help: Some("keep one of the two".to_owned()),
        });
    }

    /// The entries of a map, or a finding that it is none.
    pub(crate) fn entries<'a>(&mut self, at: &At<'a>) -> Option<&'a [Entry<'a>]> {
        let node = at.node()?;
        match &node.value {
            Value::Map(entries) => Some(entries),
            Value::Scalar(_) | Value::List(_) => {
                self.wrong_type(at, "a map of fields", node);
                None
            }
        }
    }

    /// The items of a list, or a finding that it is none.
    pub(crate) fn items<'a>(&mut self, at: &At<'a>) -> Option<&'a [Node<'a>]> {
        let node = at.node()?;
        match &node.value {
            Value::List(items) => Some(items),
            Value::Scalar(_) | Value::Map(_) => {
                self.wrong_type(at, "a list", node).help("begin each item with `- `");
                None
            }
        }
    }

    /// A scalar, or a finding that it is none.
    pub(crate) fn scalar<'a>(&mut self, at: &At<'a>, expected: &str) -> Option<&'a Scalar<'a>> {
        let node = at.node()?;
        match &node.value {
            Value::Scalar(scalar) => Some(scalar),
            Value::List(_) | Value::Map(_) => {
                self.wrong_type(at, expected, node);
                None
            }
        }
    }

    pub(crate) fn wrong_type(
        &mut self,
        at: &At<'_>,
        expected: &str,
        node: &Node<'_>,
    ) -> Report<'_> {
        let found = match &node.value {
            Value::Scalar(scalar) => scalar.describe(),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a map".to_owned(),
        };
        self.fail(at, "wrong-type", format!("expected {expected}, found {found}"))
    }

    /// A field that the API does not have.
    pub(crate) fn unknown_field(&mut self, at: &At<'_>, key: &str, known: &[&str]) {
        let meant = nearest(key, known.iter().copied());
        if let Some(map) = at.parent().and_then(At::node) {
            self.incomplete.insert(address(map));
            if let Some(meant) = meant.filter(|meant| map.get(meant).is_none()) {
                self.meant.insert((address(map), meant.to_owned()));
            }
        }
        let (path, span, field) = (Arc::clone(&self.path), at.key_span(), at.path());
        let help = match meant {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("known fields: {}", known.join(", ")),
        };
        self.diagnostics.push(Diagnostic {
            severity: Severity::Error,
            code: "unknown-field",
            path,
            span,
            field,
            message: format!("unknown field `{key}`"),
            help: Some(help),
        });
    }

    /// Reports the fields that are not written; rules that would say the same again are not heard.
    pub(crate) fn require(&mut self, at: &At<'_>, names: &[&str]) {
        for name in names {
            if at.node().is_some_and(|node| node.get(name).is_none()) {
                self.fail_missing(&at.field(name), &format!("`{name}` is required"));
            }
        }
    }

    /// A value of an enumeration.
    pub(crate) fn name<T: Copy + Default>(&mut self, at: &At<'_>, names: &[(&str, T)]) -> T {
        let Some(scalar) = self.scalar(at, "a name") else { return T::default() };
        if let Some((_, value)) =
            names.iter().find(|(name, _)| *name == scalar.text && scalar.is_text())
        {
            return *value;
        }
        let all = || names.iter().map(|(name, _)| *name);
        let help = match nearest(&scalar.text, all()) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("one of {}", all().collect::<Vec<_>>().join(", ")),
        };
        let message = format!("unknown value {}", scalar.quote());
        self.fail(at, "unknown-value", message).help(help);
        T::default()
    }
}

fn address(node: &Node<'_>) -> usize {
    std::ptr::from_ref(node).addr()
}
