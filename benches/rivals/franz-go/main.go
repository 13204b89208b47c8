// Copies a topic record by record, as the best copiers of that kind do: franz-go is the client under Redpanda Migrator.
//
// franz-go SOURCE TARGET TOPIC AS [CODEC]. The target topic has to exist. Prints records and bytes as JSON.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// What these are set to made it fastest: large fetches, batches of up to the broker's limit, and no waiting for more.
const (
	fetchBytes          = 50 << 20
	partitionFetchBytes = 4 << 20
	batchBytes          = 1_000_000
	bufferedRecords     = 200_000
)

var codecs = map[string]kgo.CompressionCodec{
	"none": kgo.NoCompression(),
	"gzip": kgo.GzipCompression(),
	"lz4":  kgo.Lz4Compression(),
	"zstd": kgo.ZstdCompression(),
}

func main() {
	if len(os.Args) < 5 {
		log.Fatal("usage: franz-go SOURCE TARGET TOPIC AS [CODEC]")
	}
	source, target, topic, as := os.Args[1], os.Args[2], os.Args[3], os.Args[4]
	codec := codecs["none"]
	if len(os.Args) > 5 {
		known := false
		if codec, known = codecs[os.Args[5]]; !known {
			log.Fatalf("codec %s is not known", os.Args[5])
		}
	}
	records, bytes, err := copyTopic(source, target, topic, as, codec)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("{\"records\": %d, \"bytes\": %d}\n", records, bytes)
}

func copyTopic(source, target, topic, as string, codec kgo.CompressionCodec) (int64, int64, error) {
	ctx, stop := context.WithCancelCause(context.Background())
	defer stop(nil)
	consumer, err := kgo.NewClient(
		kgo.SeedBrokers(source),
		kgo.ConsumeTopics(topic),
		kgo.FetchMaxBytes(fetchBytes),
		kgo.FetchMaxPartitionBytes(partitionFetchBytes),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(), // Each takes an offset, so they count until all is read.
	)
	if err != nil {
		return 0, 0, err
	}
	defer consumer.Close()
	producer, err := kgo.NewClient(
		kgo.SeedBrokers(target),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(codec),
		kgo.ProducerBatchMaxBytes(batchBytes),
		kgo.MaxBufferedRecords(bufferedRecords),
		kgo.ProducerLinger(0),
	)
	if err != nil {
		return 0, 0, err
	}
	defer producer.Close()

	ends, err := kadm.NewClient(consumer).ListEndOffsets(ctx, topic)
	if err != nil {
		return 0, 0, err
	}
	var wanted int64
	ends.Each(func(end kadm.ListedOffset) { wanted += end.Offset })

	var acked, bytes atomic.Int64
	for read := int64(0); read < wanted; {
		fetches := consumer.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			return 0, 0, context.Cause(ctx)
		}
		fetches.EachRecord(func(record *kgo.Record) {
			read++
			if record.Attrs.IsControl() {
				return
			}
			bytes.Add(int64(len(record.Key) + len(record.Value)))
			out := &kgo.Record{
				Topic:     as,
				Partition: record.Partition,
				Key:       record.Key,
				Value:     record.Value,
				Headers:   record.Headers,
				Timestamp: record.Timestamp,
			}
			producer.Produce(ctx, out, func(_ *kgo.Record, err error) {
				if err != nil {
					stop(err)
					return
				}
				acked.Add(1)
			})
		})
	}
	if err := producer.Flush(ctx); err != nil {
		return 0, 0, context.Cause(ctx)
	}
	return acked.Load(), bytes.Load(), nil
}
