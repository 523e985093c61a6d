//! An input of which only so much is read between two looks at it, and whose lines are counted.

use std::io::{self, BufRead, Read};

/// Gives an error when more is read than was allowed.
#[derive(Debug)]
pub(super) struct Bounded<R> {
    input: R,
    line: u64,
    left: usize,
}

impl<R: BufRead> Bounded<R> {
    pub(super) const fn new(input: R) -> Self {
        Self { input, line: 1, left: 0 }
    }

    /// The line of the next byte, from 1.
    pub(super) const fn line(&self) -> u64 {
        self.line
    }

    /// Lets so many bytes more be read, whatever is left of those before.
    pub(super) const fn allow(&mut self, bytes: usize) {
        self.left = bytes;
    }
}

impl<R: BufRead> Read for Bounded<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(into)?;
        self.consume(read);
        Ok(read)
    }
}

impl<R: BufRead> BufRead for Bounded<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let bytes = self.input.fill_buf()?;
        if self.left == 0 && !bytes.is_empty() {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "too much"));
        }
        Ok(bytes.get(..self.left).unwrap_or(bytes))
    }

    fn consume(&mut self, used: usize) {
        // What is consumed has been filled before: this reads nothing.
        if used > 0
            && let Ok(bytes) = self.input.fill_buf()
        {
            let ends = bytes.iter().take(used).filter(|byte| **byte == b'\n').count();
            self.line = self.line.saturating_add(ends as u64);
        }
        self.left = self.left.saturating_sub(used);
        self.input.consume(used);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_read_than_was_allowed_and_lines_are_counted() {
        let mut input = Bounded::new(io::BufReader::with_capacity(3, &b"a\nb\n\ncd"[..]));
        let mut text = Vec::new();
        input.allow(5);
        let error = input.read_to_end(&mut text).unwrap_err();
        assert_eq!((error.kind(), input.line()), (io::ErrorKind::FileTooLarge, 4));
        input.allow(2);
        input.read_to_end(&mut text).unwrap();
        assert_eq!(text, b"a\nb\n\ncd");
    }
}
