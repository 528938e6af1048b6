//! The pipes to the CLI, each with a task of its own, so that a CLI that prints while we write
//! can never block us, and a reader that is dropped half-way never loses part of a line.

use std::sync::Arc;

use serde_json::Value;
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
};

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

/// The lines of a pipe. A CLI that prints faster than it is heard has to wait.
pub(in crate::driver) fn lines(pipe: Option<impl AsyncRead + Unpin + Send + 'static>) -> Lines {
    let (sender, receiver) = mpsc::channel(WAITING_LINES);
    if let Some(pipe) = pipe {
        let reader = tokio::io::BufReader::with_capacity(64 * 1024, pipe);
        tokio::spawn(pump(reader, MAX_LINE_BYTES, WAITING_BYTES, sender));
    }
    Lines(receiver)
}

/// Brings lines as long as somebody wants them, of which so many bytes may wait.
async fn pump(
    mut reader: impl AsyncBufRead + Unpin,
    longest: u64,
    waiting: u64,
    sender: mpsc::Sender<Waiting>,
) {
    let room = Arc::new(Semaphore::new(usize::try_from(waiting).unwrap_or(Semaphore::MAX_PERMITS)));
    while let Some(line) = next_line(&mut reader, longest).await {
        let size = u32::try_from(line.len()).unwrap_or(u32::MAX);
        let Ok(taken) = Arc::clone(&room).acquire_many_owned(size).await else { return };
        if sender.send((line, taken)).await.is_err() {
            return;
        }
    }
}

/// The next line; none at the end, or where the pipe breaks. A line that is too long is left
/// out, and the one behind it comes.
async fn next_line(reader: &mut (impl AsyncBufRead + Unpin), most: u64) -> Option<Vec<u8>> {
    loop {
        let mut line = Vec::new();
        let read = (&mut *reader).take(most).read_until(b'\n', &mut line).await.ok()?;
        if read == 0 {
            return None;
        }
        if line.last() == Some(&b'\n') {
            line.pop();
            return Some(line);
        }
        if (read as u64) < most {
            return Some(line);
        }
        skip_line(reader).await?;
    }
}

async fn skip_line(reader: &mut (impl AsyncBufRead + Unpin)) -> Option<()> {
    loop {
        let buffer = reader.fill_buf().await.ok()?;
        if buffer.is_empty() {
            return None;
        }
        match buffer.iter().position(|byte| *byte == b'\n') {
            Some(end) => {
                reader.consume(end + 1);
                return Some(());
            }
            None => {
                let length = buffer.len();
                reader.consume(length);
            }
        }
    }
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
        while let Some(line) = next_line(&mut reader, most).await {
            lines.push(String::from_utf8_lossy(&line).into_owned());
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
        let mut pump = std::pin::pin!(pump(&b"123456\n1234567\n7654321\nlast"[..], 8, 14, sender));
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
        assert_eq!(read(b"ok\nmuch too long\nok too\n", 8).await, ["ok", "ok too"]);
        assert_eq!(read(b"much too long", 8).await, Vec::<String>::new());
    }
}
