/** @file A place to drop files or folders, with buttons that pick them for those who do not drag. */
import { Button } from '@mantine/core'
import { FileUp, FolderOpen } from 'lucide-react'
import { useRef, useState, type ReactNode } from 'react'
import { canPickFolder, droppedFiles, inputFiles, pickFolder } from '../files.ts'

interface Props {
  readonly testId: string
  readonly title: ReactNode
  readonly children?: ReactNode
  readonly onFiles: (files: File[]) => void
  /** Comma-separated, as an input's accept. */
  readonly accept?: string
  readonly folder?: boolean
  /** Words on the file button. */
  readonly pick?: string
  readonly disabled?: boolean
}

export function DropZone({ testId, title, children, onFiles, accept, folder = false, pick = 'Pick files', disabled = false }: Props) {
  const [over, setOver] = useState(false)
  const files = useRef<HTMLInputElement>(null)
  const dir = useRef<HTMLInputElement>(null)
  const take = (input: HTMLInputElement): void => {
    const given = inputFiles(input.files)
    // the same file may be picked again after it was repaired
    input.value = ''
    if (given.length > 0) onFiles(given)
  }
  const openFolder = (): void => {
    // the input asks whether to upload, which is not what happens; the newer picker does not
    if (!canPickFolder()) dir.current?.click()
    else
      void pickFolder().then((given) => {
        if (given.length > 0) onFiles(given)
      })
  }
  return (
    <div
      className="drop"
      data-testid={testId}
      data-over={over ? '' : undefined}
      onDragOver={(e) => {
        e.preventDefault()
        setOver(!disabled)
      }}
      onDragLeave={(e) => {
        if (!e.currentTarget.contains(e.relatedTarget as Node | null)) setOver(false)
      }}
      onDrop={(e) => {
        e.preventDefault()
        setOver(false)
        if (disabled) return
        void droppedFiles(e.dataTransfer).then((given) => {
          if (given.length > 0) onFiles(given)
        })
      }}
    >
      <div>
        <strong>{title}</strong>
        {children !== undefined && <div className="small">{children}</div>}
      </div>
      <div className="row" style={{ justifyContent: 'center' }}>
        <Button size="xs" leftSection={<FileUp size={14} aria-hidden />} disabled={disabled} onClick={() => files.current?.click()}>
          {pick}
        </Button>
        {folder && (
          <Button size="xs" leftSection={<FolderOpen size={14} aria-hidden />} disabled={disabled} onClick={openFolder}>
            Pick a folder
          </Button>
        )}
      </div>
      <input
        ref={files}
        type="file"
        multiple
        hidden
        accept={accept}
        aria-label={pick}
        data-testid={`${testId}-input`}
        onChange={(e) => {
          take(e.currentTarget)
        }}
      />
      {folder && (
        <input
          ref={dir}
          type="file"
          multiple
          hidden
          aria-label="Pick a folder"
          data-testid={`${testId}-folder`}
          {...{ webkitdirectory: '' }}
          onChange={(e) => {
            take(e.currentTarget)
          }}
        />
      )}
    </div>
  )
}
