// Package certs makes and checks the certificates by which an agent and a
// coordinator know each other: who the job is, and that both sides answer to
// the same certificate authority.
//
// Start with [Authority]. [NewAuthority] makes one in memory for a single run,
// [LoadAuthority] reads one that [Generate] wrote, and [Authority.IssueJob]
// gives a job its certificates. [JobCerts.ServerConfig] is then the
// coordinator's end of the connection and [Files.ClientConfig] the agent's; one
// that stays, for many jobs, has [ServerFiles.ServerConfig].
//
// Certificates are replaced under connections that stay: [Rotate], [RotateCA] and
// [FinishCA] write those of a directory anew, [Authority.RenewJob] makes those of
// a job, and [JobServer] takes them. [Inspect] tells what is wrong with any.
//
// The package does not listen, dial or log, knows neither Kubernetes nor gRPC,
// and revokes nothing: a job's certificates are deleted with the job, and end
// by themselves. It proves which job a peer belongs to; whether that is the
// expected one is for the caller to compare, with [PeerID].
package certs
