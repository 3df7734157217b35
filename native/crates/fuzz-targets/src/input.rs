//! A script, read from the bytes of an input.

/// Numbers are big-endian; what is missing at the end reads as zero or empty.
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The code of the next step; `None`: the script is over.
    pub fn step(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    pub fn byte(&mut self) -> u8 {
        self.step().unwrap_or_default()
    }

    pub fn short(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    /// Two bytes of length, then so many bytes or what there is of them.
    pub fn bytes(&mut self) -> &'a [u8] {
        let length = usize::from(self.short()).min(self.0.len());
        let (bytes, rest) = self.0.split_at(length);
        self.0 = rest;
        bytes
    }
}
