package api

// MaxIndexBytes bounds the Cloakroom-Index header.
const MaxIndexBytes = 1024
