//! What is said of files that agents made and that a place does not get.

use super::super::transcript::one_line;

/// How many files are named at most.
const NAMED: usize = 20;
const MIB: u64 = 1024 * 1024;

/// Why a file does not fit; sizes in bytes.
pub(in crate::chat) fn too_large(size: u64, most: u64) -> String {
    format!(
        "it has {}.{} MiB, and this place takes {} MiB at most",
        size / MIB,
        size % MIB * 10 / MIB,
        most / MIB
    )
}

/// A line in place of a file, with its id where it is there.
pub(in crate::chat) fn not_posted(name: &str, id: Option<&str>, why: &str) -> String {
    let line = format!("! {} could not be posted: {}", code(name), one_line(why));
    match id {
        Some(id) => format!("{line}; the server keeps it in its data directory, as `files/{id}`"),
        None => line,
    }
}

/// What is told of the files, with names and ids, behind the most that are posted; 0 where a place
/// takes none.
pub(in crate::chat) fn files_left(files: &[(&str, &str)], most: usize) -> String {
    let n = files.len();
    let mut text = match most {
        0 => "! files are not taken here".to_owned(),
        most => format!("! {most} files are posted here for one answer, and {n} more were made"),
    };
    text.push_str("; the server keeps them in its data directory:\n");
    for (name, id) in files.iter().take(NAMED) {
        text.push_str(&format!("- {}: `files/{id}`\n", code(name)));
    }
    if n > NAMED {
        text.push_str(&format!("- and {} more\n", n - NAMED));
    }
    text.truncate(text.trim_end().len());
    text
}

fn code(name: &str) -> String {
    format!("`{}`", one_line(name).replace('`', "ˋ"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_posted_is_told_with_where_it_is() {
        let many: Vec<(String, String)> =
            (0..23).map(|n| (format!("f{n}.txt"), format!("{n:03}"))).collect();
        let many: Vec<(&str, &str)> =
            many.iter().map(|(name, id)| (name.as_str(), id.as_str())).collect();
        insta::assert_snapshot!(
            [
                not_posted("a`b\nc.zip", Some("0123"), &too_large(12 * MIB + MIB / 2, 10 * MIB)),
                not_posted("gone.txt", None, "it is kept no longer"),
                files_left(&many[..1], 0),
                files_left(&many, 10),
            ]
            .join("\n\n")
        );
    }
}
