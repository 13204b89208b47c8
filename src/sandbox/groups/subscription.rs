//! The topics in a consumer's subscription, the one thing in a member's metadata that the coordinator reads.

use crate::protocol::primitives::{Reader, WireError};

/// An empty string in an array of them.
const MIN_STRING_BYTES: usize = 2;

/// Every version of the subscription begins with a version and the topics; what follows is not looked at.
pub(super) fn topics(metadata: &[u8]) -> Result<Vec<&str>, WireError> {
    let mut reader = Reader::new(metadata);
    let _version = reader.i16()?;
    let count = reader.array_len(MIN_STRING_BYTES)?.unwrap_or(0);
    (0..count).map(|_| reader.string()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_topics_of_a_subscription_are_read_and_the_rest_is_not() {
        let metadata = [
            &[0, 3][..], // version 3
            &[0, 0, 0, 2],
            &[0, 1, b'a', 0, 2, b'b', b'c'],
            &[0xff; 20], // user data and what newer versions add
        ]
        .concat();

        assert_eq!(topics(&metadata), Ok(vec!["a", "bc"]));
    }

    #[test]
    fn a_subscription_that_claims_more_than_it_holds_is_refused() {
        assert!(topics(&[0, 3, 0x7f, 0xff, 0xff, 0xff, 0, 1]).is_err());
        assert!(topics(&[0]).is_err());
    }
}
