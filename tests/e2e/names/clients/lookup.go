// The resolver that Go picks by itself, and the one that is written in Go, on sockets of its own.
package main

import (
	"context"
	"fmt"
	"net"
	"os"
)

func main() {
	ways := map[string]*net.Resolver{"lookup": net.DefaultResolver, "own": {PreferGo: true}}
	for way, resolver := range ways {
		for _, name := range os.Args[1:] {
			addresses, err := resolver.LookupHost(context.Background(), name)
			if err != nil {
				fmt.Println(way, name, err)
			}
			for _, address := range addresses {
				fmt.Println(way, name, address)
			}
		}
	}
}
