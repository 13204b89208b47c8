//! What kferry reads and writes itself of the Kafka wire protocol.
