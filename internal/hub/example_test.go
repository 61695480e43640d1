package hub_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log"

	"gin-sse/internal/event"
	"gin-sse/internal/history"
	"gin-sse/internal/hub"
)

// A client follows all orders, and is then told of one.
func Example() {
	h := hub.New(hub.Options{Limits: history.Limits{PerTopic: 1000, Bytes: 1 << 20}})
	defer h.Close()
	h.Begin("epoch", 0, 0) // a log does this, and numbers the messages

	topics, err := event.ParseTopics([]string{"orders/*"})
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	client, err := h.Subscribe(ctx, topics, "")
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	if _, err := client.Next(ctx); err != nil { // where the stream begins
		log.Fatal(err)
	}

	if err := h.Append(event.Message{Number: 1, Topic: "orders/7", Data: json.RawMessage(`{"message":"Shipped"}`)}); err != nil {
		log.Fatal(err)
	}
	text, err := client.Next(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Print(string(text))
	// Output:
	// id:epoch-1
	// topic:orders/7
	// data:{"message":"Shipped"}
}
