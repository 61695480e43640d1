package cluster

// Connected reports whether there is a connection to NATS.
func (r *Replica) Connected() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.nc != nil && r.nc.IsConnected()
}
