//! The pipes to the CLI, each with a task of its own, so that a CLI that prints while we write
//! can never block us, and a reader that is dropped half-way never loses part of a line. A line that is
//! longer than we can hold is left out, and that is told.

use std::sync::Arc;

use serde_json::Value;
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
};

use super::{FaintVoice, Said, Voice};
use crate::wire::Stream;

/// The most bytes of one line. The CLI prints a whole answer as one line, so that lines of some
/// MiB are common; what is longer than this is dropped, as one line.
const MAX_LINE_BYTES: u64 = 64 * 1024 * 1024;
/// How many lines wait for us before the CLI has to.
const WAITING_LINES: usize = 16;
/// How many bytes they have together: one of the longest, and no more of those.
const WAITING_BYTES: u64 = MAX_LINE_BYTES;

/// A line that waits, and the room that it takes until it is heard.
type Waiting = (Vec<u8>, OwnedSemaphorePermit);

/// The lines of a pipe, without their ends.
pub(in crate::driver) struct Lines(mpsc::Receiver<Waiting>);

impl Lines {
    /// The next line; none once the pipe has ended. A wait that is given up loses nothing.
    pub(in crate::driver) async fn recv(&mut self) -> Option<Vec<u8>> {
        self.0.recv().await.map(|(line, _)| line)
    }
}

/// The lines of a pipe. A CLI that prints faster than it is heard has to wait. What is left out is told by
/// a voice, where somebody misses it.
pub(in crate::driver) fn lines(
    pipe: Option<impl AsyncRead + Unpin + Send + 'static>,
    voice: Option<&Voice>,
) -> Lines {
    let (sender, receiver) = mpsc::channel(WAITING_LINES);
    if let Some(pipe) = pipe {
        let reader = tokio::io::BufReader::with_capacity(64 * 1024, pipe);
        // A child of the CLI may hold the pipe for ever; the run's end does not wait for it.
        let voice = voice.map(Voice::faint);
        tokio::spawn(pump(reader, MAX_LINE_BYTES, WAITING_BYTES, sender, voice));
    }
    Lines(receiver)
}

/// Brings lines as long as somebody wants them, of which so many bytes may wait.
async fn pump(
    mut reader: impl AsyncBufRead + Unpin,
    longest: u64,
    waiting: u64,
    sender: mpsc::Sender<Waiting>,
    voice: Option<FaintVoice>,
) {
    let room = Arc::new(Semaphore::new(usize::try_from(waiting).unwrap_or(Semaphore::MAX_PERMITS)));
    while let Some(found) = next_line(&mut reader, longest).await {
        let line = match found {
            Found::Line(line) => line,
            Found::TooLong(bytes) => {
                if let Some(voice) = &voice {
                    let line = left_out(bytes, longest).into_bytes();
                    voice.say(Said::Log(Stream::System, line)).await;
                }
                continue;
            }
        };
        let size = u32::try_from(line.len()).unwrap_or(u32::MAX);
        let Ok(taken) = Arc::clone(&room).acquire_many_owned(size).await else { return };
        if sender.send((line, taken)).await.is_err() {
            return;
        }
    }
}

/// What is said of a line of so many bytes that was left out.
fn left_out(bytes: u64, most: u64) -> String {
    let mib = 1024.0 * 1024.0;
    #[expect(clippy::cast_precision_loss, reason = "it is for people")]
    let (bytes, most) = (bytes as f64 / mib, most as f64 / mib);
    format!(
        "a line of {bytes:.1} MiB that the agent's CLI printed is left out: lines of up to {most:.0} \
         MiB are read\n"
    )
}

/// What comes next in a pipe.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Line(Vec<u8>),
    /// One that is left out, of so many bytes.
    TooLong(u64),
}

/// The next line; none at the end, or where the pipe breaks.
async fn next_line(reader: &mut (impl AsyncBufRead + Unpin), most: u64) -> Option<Found> {
    let mut line = Vec::new();
    let read = (&mut *reader).take(most).read_until(b'\n', &mut line).await.ok()? as u64;
    if read == 0 {
        return None;
    }
    if line.last() == Some(&b'\n') {
        line.pop();
    } else if read == most {
        drop(line);
        return Some(Found::TooLong(read + skip_line(reader).await));
    }
    Some(Found::Line(line))
}

/// Passes over the rest of a line; answers how many bytes that is, without its end.
async fn skip_line(reader: &mut (impl AsyncBufRead + Unpin)) -> u64 {
    let mut skipped = 0;
    while let Ok(buffer) = reader.fill_buf().await
        && !buffer.is_empty()
    {
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let passed = end.unwrap_or(buffer.len());
        skipped += passed as u64;
        reader.consume(passed + usize::from(end.is_some()));
        if end.is_some() {
            break;
        }
    }
    skipped
}

/// Writes values as lines. The pipe closes once the sender is dropped and all is written.
pub(in crate::driver) fn writer(
    pipe: Option<impl AsyncWrite + Unpin + Send + 'static>,
) -> mpsc::UnboundedSender<Value> {
    let (sender, mut receiver) = mpsc::unbounded_channel::<Value>();
    if let Some(mut pipe) = pipe {
        tokio::spawn(async move {
            while let Some(value) = receiver.recv().await {
                let mut line = value.to_string().into_bytes();
                line.push(b'\n');
                // A CLI that reads no more is about to end; its end is seen elsewhere.
                if pipe.write_all(&line).await.is_err() || pipe.flush().await.is_err() {
                    break;
                }
            }
        });
    }
    sender
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(bytes: &'static [u8], most: u64) -> Vec<String> {
        let mut reader = tokio::io::BufReader::with_capacity(3, bytes);
        let mut lines = Vec::new();
        while let Some(found) = next_line(&mut reader, most).await {
            lines.push(match found {
                Found::Line(line) => String::from_utf8_lossy(&line).into_owned(),
                Found::TooLong(bytes) => format!("{bytes} bytes"),
            });
        }
        lines
    }

    #[tokio::test]
    async fn lines_come_whole_whatever_the_buffer() {
        assert_eq!(read(b"one\n\nlonger one\nlast", 100).await, ["one", "", "longer one", "last"]);
    }

    #[tokio::test]
    async fn only_so_many_bytes_wait_however_few_lines_they_are() {
        let (sender, receiver) = mpsc::channel(WAITING_LINES);
        let mut lines = Lines(receiver);
        let mut pump =
            std::pin::pin!(pump(&b"123456\n1234567\n7654321\nlast"[..], 8, 14, sender, None));
        let mut heard = Vec::new();
        for waiting in [2, 2, 2] {
            tokio::select! {
                biased;
                () = &mut pump => {}
                () = std::future::ready(()) => {}
            }
            assert_eq!(lines.0.len(), waiting, "behind {heard:?}");
            heard.extend(lines.recv().await);
        }
        assert_eq!(heard, [&b"123456"[..], b"1234567", b"7654321"]);
    }

    #[tokio::test]
    async fn a_line_that_is_too_long_is_left_out_and_the_next_one_comes() {
        assert_eq!(read(b"ok\nmuch too long\nok too\n", 8).await, ["ok", "13 bytes", "ok too"]);
        assert_eq!(read(b"much too long", 8).await, ["13 bytes"]);
        assert_eq!(read(b"12345678\nok", 8).await, ["8 bytes", "ok"], "its end is one too many");
    }

    #[tokio::test]
    async fn what_is_left_out_is_told() {
        let (sender, receiver) = mpsc::channel(WAITING_LINES);
        let (voice, mut said) = mpsc::channel(WAITING_LINES);
        let voice = Voice::new(voice);
        pump(&b"much too long\nok\n"[..], 8, 14, sender, Some(voice.faint())).await;
        drop(voice);
        assert_eq!(Lines(receiver).recv().await.as_deref(), Some(&b"ok"[..]));
        let told = said.recv().await;
        assert!(matches!(&told, Some(Said::Log(Stream::System, _))), "{told:?}");
        assert_eq!(said.recv().await, None, "and nothing else is");
        insta::assert_snapshot!(
            left_out(70 * 1024 * 1024, MAX_LINE_BYTES).trim_end(),
            @"a line of 70.0 MiB that the agent's CLI printed is left out: lines of up to 64 MiB are read"
        );
    }
}
