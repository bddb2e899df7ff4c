// Goroutines, channels, a TCP echo of its own, timers, garbage: the Go runtime's own threads, signals (preemption) and memory.
package main

import (
	"bufio"
	"crypto/sha256"
	"fmt"
	"net"
	"os"
	"runtime"
	"sync"
	"time"
)

func echo(listener net.Listener) {
	for {
		c, err := listener.Accept()
		if err != nil {
			return
		}
		go func() {
			for s := bufio.NewScanner(c); s.Scan(); {
				fmt.Fprintf(c, "%x\n", sha256.Sum256(s.Bytes()))
			}
		}()
	}
}

func main() {
	runtime.GOMAXPROCS(3)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go echo(listener)
	c, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		panic(err)
	}
	reader, state, kept := bufio.NewReader(c), "start", map[int][]byte{}
	for step := 0; step < 100; step++ {
		var sums [8][32]byte
		var all sync.WaitGroup
		for k := range sums {
			all.Add(1)
			go func(k int) {
				defer all.Done()
				sums[k] = sha256.Sum256([]byte(fmt.Sprint(state, k)))
				for n := 0; n < 2000; n++ {
					sums[k] = sha256.Sum256(sums[k][:])
				}
			}(k)
		}
		all.Wait()
		fmt.Fprintf(c, "%x\n", sums)
		if state, err = reader.ReadString('\n'); err != nil {
			panic(err)
		}
		kept[step%10] = make([]byte, 1<<20)
		before := time.Now()
		<-time.After(4 * time.Millisecond)
		if time.Since(before) > 30*time.Second {
			panic("the clock jumped")
		}
		fmt.Fprintf(os.Stdout, "step %d %s", step, state)
	}
	fmt.Println("end")
}
