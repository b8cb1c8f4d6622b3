/** @file Types of the helpers that tests use; see proof_folder.mjs. */
export declare function emptyFolder(folder: string): void
