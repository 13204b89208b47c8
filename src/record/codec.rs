//! The codecs a batch's records may be compressed with.
//!
//! Compressed bytes come from a peer, so every decoder here stops at the limit its caller gives, and none reserves memory
//! because a length in the data says so: what is allocated follows what has been decompressed, or what the compressed
//! bytes that are there can expand to at most. Checksums inside the data are left to the decoders that check them anyway;
//! the batch's CRC has covered the same bytes.

mod lz4;
mod snappy;
mod zstd;

use std::error::Error;
use std::fmt;
use std::io::{Read, Write};

use flate2::Compression;
use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;

/// How the records of a batch are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

/// The attributes name a codec that Kafka does not define.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("compression codec {0} is not known")]
pub struct UnknownCodec(pub i16);

/// Why compressing or decompressing failed.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    #[error("{codec} data makes more than {limit} bytes decompressed")]
    TooLarge { codec: Codec, limit: usize },
    #[error("malformed {codec} data")]
    Malformed { codec: Codec, source: Cause },
    #[error("{codec} cannot compress {len} bytes")]
    Compress { codec: Codec, len: usize, source: Cause },
}

type Cause = Box<dyn Error + Send + Sync>;

impl Codec {
    /// From the attributes of a batch or of a message, whose lowest three bits name the codec.
    pub fn from_attributes(attributes: i16) -> Result<Self, UnknownCodec> {
        match attributes & 0x07 {
            0 => Ok(Self::None),
            1 => Ok(Self::Gzip),
            2 => Ok(Self::Snappy),
            3 => Ok(Self::Lz4),
            4 => Ok(Self::Zstd),
            unknown => Err(UnknownCodec(unknown)),
        }
    }

    /// The bits of the attributes that name this codec.
    pub fn attributes(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::Snappy => 2,
            Self::Lz4 => 3,
            Self::Zstd => 4,
        }
    }

    /// Decompresses all of `input`, or fails once that takes more than `limit` bytes.
    pub fn decompress(self, input: &[u8], limit: usize) -> Result<Vec<u8>, CodecError> {
        let decompressed = match self {
            Self::None if input.len() > limit => Err(Failure::TooLarge),
            Self::None => Ok(input.to_vec()),
            Self::Gzip => read_up_to(limit, MultiGzDecoder::new(input)),
            Self::Snappy => snappy::decompress(input, limit),
            Self::Lz4 => lz4::decompress(input, limit),
            Self::Zstd => zstd::decompress(input, limit),
        };
        decompressed.map_err(|failure| match failure {
            Failure::TooLarge => CodecError::TooLarge { codec: self, limit },
            Failure::Malformed(source) => CodecError::Malformed { codec: self, source },
        })
    }

    /// Compresses as Kafka's own producers do, so that every consumer reads it.
    pub fn compress(self, input: &[u8]) -> Result<Vec<u8>, CodecError> {
        let compressed = match self {
            Self::None => Ok(input.to_vec()),
            Self::Gzip => gzip(input),
            Self::Snappy => snappy::compress(input),
            Self::Lz4 => lz4::compress(input),
            Self::Zstd => zstd::compress(input),
        };
        compressed.map_err(|source| CodecError::Compress {
            codec: self,
            len: input.len(),
            source,
        })
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        })
    }
}

/// A [`CodecError`] in the making: the codecs' modules need not say which codec and limit it was.
enum Failure {
    TooLarge,
    Malformed(Cause),
}

impl<E: Error + Send + Sync + 'static> From<E> for Failure {
    fn from(cause: E) -> Self {
        Self::Malformed(cause.into())
    }
}

/// Reads a decoder to its end, or to one byte past the limit.
fn read_up_to(limit: usize, decoder: impl Read) -> Result<Vec<u8>, Failure> {
    let mut output = Vec::new();
    decoder
        .take((limit as u64).saturating_add(1))
        .read_to_end(&mut output)?;
    if output.len() > limit {
        Err(Failure::TooLarge)
    } else {
        Ok(output)
    }
}

fn gzip(input: &[u8]) -> Result<Vec<u8>, Cause> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(input)?;
    Ok(encoder.finish()?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const COMPRESSED: [Codec; 4] = [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

    #[test]
    fn a_codec_has_the_same_bits_both_ways() {
        for bits in 0..5 {
            assert_eq!(Codec::from_attributes(bits).map(Codec::attributes), Ok(bits));
        }
        for bits in 5..8 {
            assert_eq!(Codec::from_attributes(bits), Err(UnknownCodec(bits)));
        }
        assert_eq!(Codec::from_attributes(0x7C), Ok(Codec::Zstd));
    }

    #[test]
    fn the_limit_is_the_last_length_that_passes() {
        let input = vec![b'x'; 100_000];
        for codec in COMPRESSED {
            let compressed = codec.compress(&input).unwrap();

            assert_eq!(codec.decompress(&compressed, 100_000).unwrap(), input);
            for limit in [0, 1, 65_536, 99_999] {
                let failed = codec.decompress(&compressed, limit).unwrap_err();
                assert!(
                    matches!(failed, CodecError::TooLarge { limit: at, .. } if at == limit),
                    "{codec} {limit}: {failed}"
                );
            }
        }
    }

    #[test]
    fn a_bomb_is_defused_at_the_limit() {
        let zeros = vec![0; 64 << 20];
        for codec in COMPRESSED {
            let bomb = codec.compress(&zeros).unwrap();

            assert!(matches!(
                codec.decompress(&bomb, 1 << 20),
                Err(CodecError::TooLarge { limit: 0x0010_0000, .. })
            ));
        }
    }

    #[test]
    fn nothing_comes_of_nothing() {
        for codec in COMPRESSED {
            assert_eq!(
                codec.decompress(&codec.compress(&[]).unwrap(), 0).unwrap(),
                Vec::<u8>::new(),
                "{codec}"
            );
        }
    }

    #[test]
    fn zstd_that_claims_a_length_it_does_not_have_is_an_error() {
        // Magic; single segment with a length of 8 bytes; length 2^40; one raw block of one byte.
        let mut frame = vec![0x28, 0xB5, 0x2F, 0xFD, 0xE0];
        frame.extend_from_slice(&(1_u64 << 40).to_le_bytes());
        frame.extend_from_slice(&[0x09, 0, 0, b'x']);

        assert!(Codec::Zstd.decompress(&frame, usize::MAX >> 1).is_err());
        assert!(Codec::Zstd.decompress(&frame, 1 << 20).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_is_compressed_comes_back(seed: u64, len in 0..200_000_usize) {
            let mut random = fastrand::Rng::with_seed(seed);
            let noise: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(len).collect();
            let text: Vec<u8> = noise.iter().flat_map(|byte| [&b"ab"[..], b"cde", b"f"][*byte as usize % 3]).copied().collect();
            for input in [noise, text] {
                for codec in COMPRESSED {
                    let compressed = codec.compress(&input).unwrap();
                    prop_assert!(codec.decompress(&compressed, input.len()).unwrap() == input, "{codec}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            for codec in COMPRESSED {
                let _any_outcome = codec.decompress(&bytes, 1 << 20);
            }
        }

        #[test]
        fn no_damage_panics(text in "[a-d]{1,999}", at: proptest::sample::Index, bit in 0..8) {
            for codec in COMPRESSED {
                let mut compressed = codec.compress(text.as_bytes()).unwrap();
                let at = at.index(compressed.len());
                compressed[at] ^= 1_u8 << bit;
                let _any_outcome = codec.decompress(&compressed, 1 << 20);
            }
        }
    }
}
