//! Results in `tests/bench/README.md`: written by the run that measured them, with its command,
//! commit and machine.

use std::fs;

use anyhow::{Context as _, Result};

use crate::{origin, paths};

/// Puts the results of a benchmark in the place of those that its section holds.
pub(super) fn write(name: &str, results: &str) -> Result<()> {
    let path = paths::root().join(README);
    let old =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let (date, commit, machine) = (origin::date()?, origin::commit()?, origin::machine()?);
    let section = format!(
        "`cargo xtask bench {name} --record` on {date}, commit {commit}; {machine}.\n\n\
         ```text\n{results}\n```"
    );
    let new = replaced(&old, name, &section)
        .with_context(|| format!("{} has no section for {name}", path.display()))?;
    fs::write(&path, new).with_context(|| format!("cannot write {}", path.display()))
}

/// The text with another section between the marks of a name.
fn replaced(text: &str, name: &str, section: &str) -> Option<String> {
    let (begin, end) = (format!("<!-- results of {name} -->"), format!("<!-- end of {name} -->"));
    let (before, rest) = text.split_once(&begin)?;
    let (_, after) = rest.split_once(&end)?;
    Some(format!("{before}{begin}\n{section}\n{end}{after}"))
}

/// The file, from the root.
const README: &str = "tests/bench/README.md";

#[cfg(test)]
mod tests {
    use super::replaced;

    #[test]
    fn a_section_is_replaced() {
        let text = "a\n<!-- results of x -->\nold\n<!-- end of x -->\nb\n";
        let new = replaced(text, "x", "new").unwrap();
        assert_eq!(new, text.replace("old", "new"));
        assert_eq!(replaced(text, "y", "new"), None);
    }
}
