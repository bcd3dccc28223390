package hodeipb

import "time"

// Protocol is the version of the protocol that both sides speak. An agent says it in its Hello, and
// a coordinator of another version refuses it.
const Protocol = 1

// KeepaliveTime is how long a connection may be silent before either side pings the other, which has
// KeepaliveTimeout to answer. So a dead path is found within 20 s. A coordinator closes the
// connection of an agent that pings more than twice as often.
const (
	KeepaliveTime    = 10 * time.Second
	KeepaliveTimeout = 10 * time.Second
)
