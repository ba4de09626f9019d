package node

import "context"

// foundKeys makes the keys of the cluster that this node founds.
func (n *Node) foundKeys(ctx context.Context) error { return n.openKeys(ctx) }

// found writes what node init decided into the directory of the new cluster,
// and forgets it.
func (n *Node) found(ctx context.Context) error {
	if err := n.fillDirectory(ctx); err != nil {
		return err
	}
	return n.folder.DropFounding()
}
