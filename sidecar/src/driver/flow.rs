//! How pieces of what an agent says are joined. Between two blocks stands one blank line, else the
//! sentences before and after a tool use would run together.

/// Pieces of one kind, joined.
#[derive(Debug, Default)]
pub(in crate::driver) struct Flow {
    /// Line breaks at the end of what was said.
    breaks: usize,
    is_begun: bool,
    is_new_block: bool,
}

impl Flow {
    /// Adds a piece. Returns what is to be said: nothing for an empty one.
    pub(in crate::driver) fn push(&mut self, piece: &str) -> Option<String> {
        if piece.is_empty() {
            return None;
        }
        let missing = if self.is_new_block && self.is_begun { 2usize } else { 0 };
        let joint = "\n".repeat(missing.saturating_sub(self.breaks));
        let said = joint + piece;
        let breaks = said.len() - said.trim_end_matches('\n').len();
        self.breaks = if breaks == said.len() { self.breaks + breaks } else { breaks };
        self.is_begun = true;
        self.is_new_block = false;
        Some(said)
    }

    /// What comes next is a block of its own.
    pub(in crate::driver) fn begin_block(&mut self) {
        self.is_new_block = true;
    }

    /// Whether anything was said.
    pub(in crate::driver) fn is_begun(&self) -> bool {
        self.is_begun
    }

    /// All was said. Returns the line break that is still lacking.
    pub(in crate::driver) fn close(&self) -> Option<String> {
        (self.is_begun && self.breaks == 0).then(|| "\n".to_owned())
    }
}
