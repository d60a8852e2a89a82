// Peers loads the cache and others like it over TCP, and prints a table of
// what a hit costs and one of what tags, memory and restarts do. It runs on
// Linux, and is a program, not a test:
//
//	go run .                                  # all tables, about twenty minutes
//	go run . -tables hits -rounds 3 -duration 1s
//	go run . -tables hits -servers memory,disk,nginx -contents json
//	go run . -tables tags -entries 20000
//
// README.md says what is measured, how, and what is not.
package main
