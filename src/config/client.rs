//! A client's properties, as in the file that Kafka's own tools take with `--command-config`.

use std::time::Duration;

use thiserror::Error;

use super::properties::{self, PropertiesError, Property};

/// The longest client id that fits a request's header.
const MAX_CLIENT_ID: usize = i16::MAX as usize;

/// What kferry takes from a client's properties.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClientProperties {
    pub client_id: Option<String>,
    pub request_timeout: Option<Duration>,
    pub connect_timeout: Option<Duration>,
    pub metadata_max_age: Option<Duration>,
    /// Keys that have no meaning here, in the order of the file.
    pub ignored: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ClientPropertiesError {
    #[error(transparent)]
    Syntax(#[from] PropertiesError),
    #[error("line {line}: {key} must be a number of milliseconds, not \"{value}\"")]
    Milliseconds { line: usize, key: String, value: String },
    #[error("line {line}: a client.id of {len} bytes is too long, {MAX_CLIENT_ID} is the most")]
    ClientId { line: usize, len: usize },
    #[error("line {line}: security.protocol {value}: this version of kferry speaks PLAINTEXT only")]
    Security { line: usize, value: String },
}

impl ClientProperties {
    pub fn parse(text: &str) -> Result<Self, ClientPropertiesError> {
        Self::from_properties(properties::parse(text)?)
    }

    /// From properties that were read already, such as the part of a larger file that is about one cluster.
    pub fn from_properties(properties: Vec<Property>) -> Result<Self, ClientPropertiesError> {
        let mut client = Self::default();
        for property in properties {
            let line = property.line;
            let milliseconds = || {
                property
                    .value
                    .trim()
                    .parse()
                    .map(Duration::from_millis)
                    .map(Some)
                    .map_err(|_| ClientPropertiesError::Milliseconds {
                        line,
                        key: property.key.clone(),
                        value: property.value.clone(),
                    })
            };
            match property.key.as_str() {
                "client.id" if property.value.len() > MAX_CLIENT_ID => {
                    return Err(ClientPropertiesError::ClientId {
                        line,
                        len: property.value.len(),
                    });
                }
                "client.id" => client.client_id = Some(property.value.clone()),
                "request.timeout.ms" => client.request_timeout = milliseconds()?,
                "socket.connection.setup.timeout.ms" => client.connect_timeout = milliseconds()?,
                "metadata.max.age.ms" => client.metadata_max_age = milliseconds()?,
                "security.protocol" if property.value.trim().eq_ignore_ascii_case("PLAINTEXT") => {}
                "security.protocol" => {
                    return Err(ClientPropertiesError::Security {
                        line,
                        value: property.value,
                    });
                }
                _ => client.ignored.push(property.key),
            }
        }
        Ok(client)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_id_that_fits_no_request_is_refused() {
        let properties = |len| ClientProperties::parse(&format!("client.id={}", "c".repeat(len)));
        assert!(properties(MAX_CLIENT_ID).is_ok());
        let error = ClientPropertiesError::ClientId {
            line: 1,
            len: MAX_CLIENT_ID + 1,
        };
        assert_eq!(properties(MAX_CLIENT_ID + 1), Err(error));
    }

    #[test]
    fn what_is_known_is_taken_and_the_rest_is_named() {
        let client = ClientProperties::parse("client.id=c\nrequest.timeout.ms = 5000\nlinger.ms=5\n");
        assert_eq!(
            client,
            Ok(ClientProperties {
                client_id: Some("c".into()),
                request_timeout: Some(Duration::from_secs(5)),
                ignored: vec!["linger.ms".into()],
                ..ClientProperties::default()
            })
        );
    }

    #[test]
    fn security_that_is_not_there_is_never_left_out_in_silence() {
        let refused = ClientProperties::parse("\nsecurity.protocol=SASL_SSL");
        assert_eq!(
            refused,
            Err(ClientPropertiesError::Security {
                line: 2,
                value: "SASL_SSL".into()
            })
        );
        assert!(ClientProperties::parse("security.protocol=PLAINTEXT").is_ok());
    }

    #[test]
    fn a_time_that_is_none_names_its_line() {
        let error = ClientProperties::parse("request.timeout.ms=soon").expect_err("no number");
        assert_eq!(
            error.to_string(),
            "line 1: request.timeout.ms must be a number of milliseconds, not \"soon\""
        );
    }
}
