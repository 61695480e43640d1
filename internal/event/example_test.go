package event_test

import (
	"encoding/json"
	"fmt"
	"log"

	"gin-sse/internal/event"
)

func ExampleMessage_Frame() {
	m := event.Message{Number: 7, Topic: "orders/7", Name: "shipped", Data: json.RawMessage(`{"by":"mail"}`)}
	fmt.Print(string(m.Frame(event.ID("epoch", m.Number))))
	// Output:
	// id:epoch-7
	// event:shipped
	// topic:orders/7
	// data:{"by":"mail"}
}

func ExamplePattern_Matches() {
	for _, pattern := range []event.Pattern{"orders/7", "orders/*", "*", ""} {
		fmt.Printf("%q: %v\n", pattern, pattern.Matches("orders/7"))
	}
	// Output:
	// "orders/7": true
	// "orders/*": true
	// "*": true
	// "": false
}

// What another pattern covers is no part of a set.
func ExampleParseTopics() {
	topics, err := event.ParseTopics([]string{"orders/7", "news", "orders/*"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(topics.Names())
	// Output: [news orders/*]
}

// An id of another epoch is never trusted.
func ExampleNumber() {
	fmt.Println(event.Number("epoch", "epoch-7"))
	fmt.Println(event.Number("epoch", "older-7"))
	// Output:
	// 7 true
	// 0 false
}
