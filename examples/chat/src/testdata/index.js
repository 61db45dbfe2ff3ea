// Stands for a built client.
